%%% What pubsub_backlog promises; the test is the process of the socket.
-module(pubsub_backlog_tests).

-export([what_is_held_is_written_in_its_order_when_it_is_released_test/0,
         who_holds_twice_releases_twice_test/0,
         what_is_held_goes_behind_what_has_no_room_test/0,
         what_has_no_room_is_there_until_it_is_written_test/0,
         who_comes_again_waits_for_what_was_put_off_before_test/0,
         what_goes_at_once_is_not_much_more_than_64_kilobytes_test/0,
         it_is_beyond_its_limits_by_messages_or_bytes_test/0]).

what_is_held_is_written_in_its_order_when_it_is_released_test() ->
    Held = put_off([<<"1">>, <<"2">>], websocket(), pubsub_backlog:new(0)),
    false = pubsub_backlog:is_empty(Held),
    [] = heard(),
    Free = release(websocket(), Held),
    true = pubsub_backlog:is_empty(Free),
    [{text, <<"1">>}, {text, <<"2">>}] = heard().

who_holds_twice_releases_twice_test() ->
    Twice = put_off([<<"1">>], websocket(), pubsub_backlog:hold(pubsub_backlog:new(0))),
    Once = release(websocket(), Twice),
    [] = heard(),
    Free = release(websocket(), Once),
    [{text, <<"1">>}] = heard(),
    Free = release(websocket(), Free).

what_is_held_goes_behind_what_has_no_room_test() ->
    Busy = put_off([<<"1">>], socket(), release(socket(), pubsub_backlog:new(0))),
    Held = put_off([<<"2">>], socket(), pubsub_backlog:hold(Busy)),
    Me = self(),
    [{text_with_reply, <<"1">>, Me}] = heard(),
    Free = release(socket(), Held),
    [{text_with_reply, <<"2">>, Me}] = heard(),
    2 = pubsub_backlog:unwritten(Free).

what_has_no_room_is_there_until_it_is_written_test() ->
    Busy = put_off([<<"1">>, <<"22">>], socket(), release(socket(), pubsub_backlog:new(0))),
    {2, 3} = pubsub_backlog:beyond(Busy, limits(1, 1)),
    Less = pubsub_backlog:written(Busy),
    {1, 2} = pubsub_backlog:beyond(Less, limits(1, 1)),
    true = pubsub_backlog:is_empty(pubsub_backlog:written(Less)),
    _ = heard().

who_comes_again_waits_for_what_was_put_off_before_test() ->
    Late = release(socket(), put_off([<<"1">>], socket(), pubsub_backlog:new(1))),
    [{text_with_reply, <<"1">>, _}] = heard(),
    2 = pubsub_backlog:unwritten(Late),
    true = pubsub_backlog:is_empty(pubsub_backlog:written(pubsub_backlog:written(Late))).

what_goes_at_once_is_not_much_more_than_64_kilobytes_test() ->
    Events = [binary:copy(<<"x">>, 40000) || _ <- [1, 2, 3]],
    Bosh = {bosh, self()},
    _ = release(Bosh, put_off(Events, Bosh, pubsub_backlog:new(0))),
    [80000, 40000] = [byte_size(Raw) || {_, _, {send_xml, {xmlstreamraw, Raw}}} <- heard()].

it_is_beyond_its_limits_by_messages_or_bytes_test() ->
    Held = put_off([<<"1">>, <<"22">>], websocket(), pubsub_backlog:new(0)),
    no = pubsub_backlog:beyond(Held, limits(2, 3)),
    {2, 3} = pubsub_backlog:beyond(Held, limits(1, 3)),
    {2, 3} = pubsub_backlog:beyond(Held, limits(2, 2)).

%%% Helpers

put_off(Events, Target, Backlog) ->
    pubsub_backlog:put_off(Events, Backlog, Target).

release(Target, Backlog) ->
    pubsub_backlog:release(Backlog, Target, self()).

limits(Messages, Bytes) ->
    #{messages => Messages, bytes => Bytes}.

websocket() ->
    {websocket, self()}.

%% One whose port nobody writes to here, since there is always something before.
socket() ->
    {socket, self(), none}.

heard() ->
    receive
        {text, _} = Message -> [Message | heard()];
        {text_with_reply, _, _} = Message -> [Message | heard()];
        {'$gen_sync_all_state_event', _, _} = Message -> [Message | heard()]
    after 0 ->
            []
    end.
