%%% What pubsub_fanout promises, without an ejabberd: its sessions are processes of the tests.
-module(pubsub_fanout_tests).

-export([fanout_test_/0]).
-export([a_socket_is_written_to_as_a_websocket_is/1,
         a_socket_that_reads_late_hears_all_in_order/1,
         a_socket_that_reads_late_may_hold_events_meanwhile/1,
         a_socket_that_is_never_read_is_closed/1,
         a_socket_that_was_closed_does_no_harm/1,
         an_event_reaches_sessions_of_each_kind/1,
         events_come_in_the_order_in_which_they_were_handed_over/1,
         who_holds_hears_events_when_it_releases/1,
         who_holds_twice_releases_twice/1,
         who_joins_hears_events_from_its_confirmation_on/1,
         an_event_waits_until_those_who_read_have_read/1,
         an_event_does_not_wait_for_those_who_begin_to_read_after_it/1,
         who_dies_while_it_reads_holds_nobody_up/1,
         who_is_dropped_while_it_reads_is_dropped_when_it_has_read/1,
         all_sessions_of_a_user_are_dropped_by_his_bare_jid/1,
         an_event_comes_between_those_who_read/1,
         events_that_wait_go_together/1,
         events_that_wait_go_together_to_a_socket_without_room/1,
         a_publisher_is_only_so_far_ahead/1,
         who_reads_finds_all_written_that_was_handed_over/1,
         a_publisher_that_dies_while_it_hands_over_holds_nobody_up_for_long/1,
         an_event_that_comes_too_late_hides_none_after_it/1,
         a_socket_with_room_for_some_of_what_was_held_gets_all_of_it/1,
         no_event_is_older_than_what_was_read_before/1,
         a_session_that_is_replaced_leaves_the_other_one_there/1,
         who_comes_again_hears_all_in_order_though_it_reads_late/1,
         who_leaves_before_all_is_written_leaves_nothing_behind/1,
         who_publishes_while_it_reads_does_not_wait_for_itself/1,
         who_has_left_hears_nothing/1,
         who_was_dropped_is_told_so_and_cannot_confirm/1,
         a_session_that_has_died_is_forgotten/1,
         a_session_that_joins_anew_is_one_member/1,
         members_stand_in_the_table_as_long_as_they_are_members/1,
         a_socket_that_does_not_read_is_closed_by_messages/1,
         a_socket_that_does_not_read_is_closed_by_bytes/1,
         a_bosh_session_that_nobody_polls_is_ended/1,
         a_session_that_holds_for_too_long_is_cut/1,
         sessions_that_read_are_left_alone/1,
         limits_can_be_changed/1,
         who_is_idle_asks_its_owner_and_ends/1,
         who_has_members_does_not_end/1,
         it_tells_its_members_that_it_has_ended/1,
         each_hears_what_it_has_to_whatever_happens_meanwhile/1]).

-define(KEY, {<<"pubsub.localhost">>, <<"/blog/Post">>, 1}).
-define(LIMITS, #{messages => 1000, bytes => 1000000}).

%% Without eunit.hrl, which Debian ships in a package of its own.
fanout_test_() ->
    {foreach, fun start/0, fun finish/1,
     [fun(Context) -> {atom_to_list(Name), fun() -> ?MODULE:Name(Context) end} end
      || {Name, 1} <- ?MODULE:module_info(exports), Name /= module_info]}.

an_event_reaches_sessions_of_each_kind({Fanout, _}) ->
    {_, Socket} = subscriber(Fanout, <<"a">>, websocket),
    {_, Bosh} = subscriber(Fanout, <<"b">>, bosh),
    {Stream, _} = subscriber(Fanout, <<"c">>, stream),
    ok = event(Fanout, <<"<message/>">>),
    [equal([{text, <<"<message/>">>}], heard(Socket)),
     true = lists:all(fun is_raw/1, heard(Bosh)),
     equal([{pubsub_outlet, send, <<"<message/>">>}], heard(Stream))].

events_come_in_the_order_in_which_they_were_handed_over({Fanout, _}) ->
    {_, Socket} = subscriber(Fanout, <<"a">>, websocket),
    Events = [integer_to_binary(Number) || Number <- lists:seq(1, 100)],
    [ok = event(Fanout, Event) || Event <- Events],
    equal(Events, texts(Socket)).

who_holds_hears_events_when_it_releases({Fanout, _}) ->
    {Session, Socket} = subscriber(Fanout, <<"a">>, websocket),
    hold(Session, Fanout),
    [ok = event(Fanout, Event) || Event <- [<<"1">>, <<"2">>]],
    Before = texts(Socket),
    in(Session, fun() -> pubsub_fanout:release(Fanout) end),
    ok = event(Fanout, <<"3">>),
    [equal([], Before), equal([<<"1">>, <<"2">>, <<"3">>], texts(Socket))].

who_holds_twice_releases_twice({Fanout, _}) ->
    {Session, Socket} = subscriber(Fanout, <<"a">>, websocket),
    [hold(Session, Fanout) || _ <- [1, 2]],
    in(Session, fun() -> pubsub_fanout:release(Fanout) end),
    ok = event(Fanout, <<"1">>),
    Before = texts(Socket),
    in(Session, fun() -> pubsub_fanout:release(Fanout) end),
    pubsub_fanout:members(Fanout),
    [equal([], Before), equal([<<"1">>], texts(Socket))].

who_joins_hears_events_from_its_confirmation_on({Fanout, _}) ->
    Socket = listener(),
    Session = session(),
    ok = in(Session, fun() -> pubsub_fanout:join(Fanout, jid(<<"a">>), {websocket, Socket}) end),
    Publisher = publish(Fanout, [<<"1">>]),
    ok = in(Session, fun() -> pubsub_fanout:confirm(Fanout, <<"id">>) end),
    wait(Publisher),
    Before = texts(Socket),
    in(Session, fun() -> pubsub_fanout:release(Fanout) end),
    pubsub_fanout:members(Fanout),
    [equal([], Before), equal([<<"1">>], texts(Socket))].

an_event_waits_until_those_who_read_have_read({Fanout, _}) ->
    {Session, _} = subscriber(Fanout, <<"a">>, websocket),
    {Other, _} = subscriber(Fanout, <<"b">>, websocket),
    {_, Socket} = subscriber(Fanout, <<"c">>, websocket),
    [ok = in(Each, fun() -> pubsub_fanout:hold(Fanout) end) || Each <- [Session, Other]],
    Publisher = publish(Fanout, [<<"1">>]),
    in(Session, fun() -> pubsub_fanout:known(Fanout) end),
    pubsub_fanout:members(Fanout),
    Before = texts(Socket),
    in(Other, fun() -> pubsub_fanout:known(Fanout) end),
    wait(Publisher),
    [equal([], Before), equal([<<"1">>], texts(Socket))].

an_event_does_not_wait_for_those_who_begin_to_read_after_it({Fanout, _}) ->
    {Session, Socket} = subscriber(Fanout, <<"a">>, websocket),
    {Late, _} = subscriber(Fanout, <<"b">>, websocket),
    ok = in(Session, fun() -> pubsub_fanout:hold(Fanout) end),
    Publisher = publish(Fanout, [<<"1">>]),
    Late ! {in, self(), fun() -> pubsub_fanout:hold(Fanout) end},
    in(Session, fun() -> pubsub_fanout:known(Fanout), pubsub_fanout:release(Fanout) end),
    wait(Publisher),
    receive {done, Late, ok} -> ok end,
    equal([<<"1">>], texts(Socket)).

who_dies_while_it_reads_holds_nobody_up({Fanout, _}) ->
    {Session, _} = subscriber(Fanout, <<"a">>, websocket),
    {_, Socket} = subscriber(Fanout, <<"b">>, websocket),
    ok = in(Session, fun() -> pubsub_fanout:hold(Fanout) end),
    Publisher = publish(Fanout, [<<"1">>]),
    kill(Session),
    wait(Publisher),
    equal([<<"1">>], texts(Socket)).

who_is_dropped_while_it_reads_is_dropped_when_it_has_read({Fanout, _}) ->
    {Session, Socket} = subscriber(Fanout, <<"a">>, websocket),
    ok = in(Session, fun() -> pubsub_fanout:hold(Fanout) end),
    Owner = working(fun() -> [_] = pubsub_fanout:drop(Fanout, [jid(<<"a">>)]) end),
    Before = pubsub_fanout:members(Fanout),
    in(Session, fun() -> pubsub_fanout:known(Fanout) end),
    wait(Owner),
    gone = in(Session, fun() -> pubsub_fanout:hold(Fanout) end),
    ok = event(Fanout, <<"1">>),
    [equal(1, length(Before)), equal([], pubsub_fanout:members(Fanout)), equal([], texts(Socket))].

all_sessions_of_a_user_are_dropped_by_his_bare_jid({Fanout, _}) ->
    _ = [subscriber(Fanout, Name, websocket) || Name <- [<<"a">>, <<"b">>]],
    Dropped = pubsub_fanout:drop(Fanout, [{<<"a">>, <<"guests.localhost">>, <<>>}]),
    [equal([jid(<<"a">>)], Dropped), equal(1, length(pubsub_fanout:members(Fanout)))].

an_event_comes_between_those_who_read({Fanout, _}) ->
    %% Many more want to read than may at once.
    Sessions = [Session || Number <- lists:seq(1, 50),
                           {Session, _} <- [subscriber(Fanout, integer_to_binary(Number), websocket)]],
    Test = self(),
    Read = fun() ->
                   ok = pubsub_fanout:hold(Fanout),
                   Test ! {reading, self()},
                   receive go -> ok end,
                   pubsub_fanout:known(Fanout),
                   pubsub_fanout:release(Fanout)
           end,
    [Session ! {in, self(), Read} || Session <- Sessions],
    First = [receive {reading, Session} -> Session end
             || _ <- lists:seq(1, erlang:system_info(schedulers_online))],
    Publisher = publish(Fanout, [<<"1">>]),
    pubsub_fanout:members(Fanout),
    %% Those who read now go on; the event is next, whoever else waits.
    [Session ! go || Session <- First],
    wait(Publisher),
    [receive {reading, Session} -> Session ! go end || _ <- Sessions -- First],
    [receive {done, Session, ok} -> ok end || Session <- Sessions].

events_that_wait_go_together({Fanout, _}) ->
    {_, Bosh} = subscriber(Fanout, <<"a">>, bosh),
    {_, Socket} = subscriber(Fanout, <<"b">>, websocket),
    {_, _, Page} = page(Fanout, <<"c">>),
    Big = binary:copy(<<"x">>, 70000),
    Events = [<<"1">>, <<"2">>, Big, <<"3">>],
    sys:suspend(Fanout),
    [ok = give(Fanout, Event) || Event <- Events],
    sys:resume(Fanout),
    _ = pubsub_fanout:members(Fanout),
    [equal([iolist_to_binary([<<"1">>, <<"2">>, Big]), <<"3">>],  % so much is enough for once
           [Raw || {_, _, {send_xml, {xmlstreamraw, Raw}}} <- heard(Bosh)]),
     equal(Events, texts(Socket)), equal(Events, frames(Page, 4))].

events_that_wait_go_together_to_a_socket_without_room({Fanout, _}) ->
    {_, _, Page} = page(Fanout, <<"a">>),
    pubsub_fanout:limit(Fanout, #{messages => 100000, bytes => 100000000}),
    Events = events(2000),
    Publisher = working(fun() -> [ok = give(Fanout, Event) || Event <- Events] end),
    wait(Publisher),
    equal(Events, frames(Page, 2000)).

a_publisher_is_only_so_far_ahead({Fanout, _}) ->
    {_, Socket} = subscriber(Fanout, <<"a">>, websocket),
    Events = [integer_to_binary(Number) || Number <- lists:seq(1, 33)],
    sys:suspend(Fanout),
    [ok = give(Fanout, Event) || Event <- lists:droplast(Events)],
    Last = working(fun() -> ok = give(Fanout, lists:last(Events)) end),
    true = is_waiting(Last),
    sys:resume(Fanout),
    wait(Last),
    equal(Events, texts(Socket)).

who_reads_finds_all_written_that_was_handed_over({Fanout, _}) ->
    {Session, _} = subscriber(Fanout, <<"a">>, websocket),
    {_, Socket} = subscriber(Fanout, <<"b">>, websocket),
    Events = [integer_to_binary(Number) || Number <- lists:seq(1, 20)],
    sys:suspend(Fanout),
    Session ! {in, self(), fun() -> ok = pubsub_fanout:hold(Fanout), texts(Socket) end},
    [ok = give(Fanout, Event) || Event <- Events],  % that stand behind it, perhaps
    sys:resume(Fanout),
    receive {done, Session, Found} -> equal(Events, Found) end,
    Publisher = publish(Fanout, [<<"21">>]),
    true = is_waiting(Publisher),
    in(Session, fun() -> pubsub_fanout:known(Fanout) end),
    wait(Publisher).

a_publisher_that_dies_while_it_hands_over_holds_nobody_up_for_long({Fanout, _}) ->
    {Session, Socket} = subscriber(Fanout, <<"a">>, websocket),
    ok = pubsub_gate:pass(persistent_term:get({?MODULE, Fanout})),  % and no event
    hold(Session, Fanout),
    in(Session, fun() -> pubsub_fanout:release(Fanout) end),
    ok = event(Fanout, <<"1">>),
    equal([<<"1">>], texts(Socket)).

an_event_that_comes_too_late_hides_none_after_it({Fanout, _}) ->
    {Session, Socket} = subscriber(Fanout, <<"a">>, websocket),
    {_, Other} = subscriber(Fanout, <<"b">>, websocket),
    ok = pubsub_gate:pass(persistent_term:get({?MODULE, Fanout})),
    hold(Session, Fanout),
    gen_server:cast(Fanout, {event, <<"late">>}),
    in(Session, fun() -> pubsub_fanout:release(Fanout) end),
    _ = pubsub_fanout:members(Fanout),
    equal([<<"late">>], texts(Socket)),
    sys:suspend(Fanout),
    Session ! {in, self(), fun() -> ok = pubsub_fanout:hold(Fanout), texts(Other) end},
    until_asked(Fanout),
    ok = give(Fanout, <<"1">>),
    sys:resume(Fanout),
    receive {done, Session, Found} -> equal([<<"late">>, <<"1">>], Found) end.

a_socket_with_room_for_some_of_what_was_held_gets_all_of_it({Fanout, _}) ->
    {Session, _, Page} = page(Fanout, <<"a">>),
    pubsub_fanout:limit(Fanout, #{messages => 100000, bytes => 100000000}),
    hold(Session, Fanout),
    Events = events(1000),
    [ok = event(Fanout, Event) || Event <- Events],
    in(Session, fun() -> pubsub_fanout:release(Fanout) end),
    More = events(10),
    [ok = event(Fanout, Event) || Event <- More],
    equal(Events ++ More, frames(Page, 1010)).

%% Publishers count what is published, each for himself, and hand it over then.  Sessions read these
%% counts again and again, and note them between the events that they hear.
no_event_is_older_than_what_was_read_before({Fanout, _}) ->
    Counts = counters:new(3, []),
    Read = fun() -> [counters:get(Counts, Each) || Each <- [1, 2, 3]] end,
    Sessions = [subscriber(Fanout, integer_to_binary(Each), stream) || Each <- lists:seq(1, 10)],
    Readers = [spawn_monitor(fun() -> read_often(Session, Fanout, Read, 50) end)
               || {Session, _} <- Sessions],
    Publishers = [spawn_monitor(fun() -> publish_often(Fanout, Counts, Each, 1000) end)
                  || Each <- [1, 2, 3]],
    [receive {'DOWN', Monitor, _, _, Reason} -> equal(normal, Reason) end
     || {_, Monitor} <- Readers ++ Publishers],
    _ = pubsub_fanout:members(Fanout),
    [equal([1000, 1000, 1000], lists:foldl(fun hear/2, [0, 0, 0], heard(Session)))
     || {Session, _} <- Sessions].

publish_often(Fanout, Counts, Publisher, Times) ->
    [begin
         counters:add(Counts, Publisher, 1),
         ok = give(Fanout, term_to_binary({Publisher, Number}))
     end || Number <- lists:seq(1, Times)].

read_often(Session, Fanout, Read, Times) ->
    [in(Session, fun() ->
                         ok = pubsub_fanout:hold(Fanout),
                         self() ! {answer, Read()},
                         pubsub_fanout:known(Fanout),
                         pubsub_fanout:release(Fanout)
                 end) || _ <- lists:seq(1, Times)].

%% What is known of each publisher: a count that was read, or the last one that was heard.
hear({answer, Counts}, Known) ->
    equal([], [{Count, Before} || {Count, Before} <- lists:zip(Counts, Known), Count < Before]),
    Counts;
hear({pubsub_outlet, send, Event}, Known) ->
    {Publisher, Number} = binary_to_term(Event),
    Before = lists:nth(Publisher, Known),
    true = Number >= Before,
    true = Number =< Before + 1,
    lists:sublist(Known, Publisher - 1) ++ [Number] ++ lists:nthtail(Publisher, Known).

a_session_that_is_replaced_leaves_the_other_one_there({Fanout, Table}) ->
    {Old, _} = subscriber(Fanout, <<"a">>, websocket),
    {New, _} = subscriber(Fanout, <<"a">>, websocket),
    kill(Old),
    [equal([{jid(<<"a">>), <<"id a">>}], pubsub_fanout:members(Fanout)),
     equal([{{?KEY, jid(<<"a">>), New}, <<"id a">>}], ets:tab2list(Table)),
     equal([jid(<<"a">>)], pubsub_fanout:drop(Fanout, [jid(<<"a">>)]))].

who_leaves_before_all_is_written_leaves_nothing_behind({Fanout, _}) ->
    {Session, Writer, _} = page(Fanout, <<"a">>),
    pubsub_fanout:limit(Fanout, #{messages => 100000, bytes => 100000000}),
    [ok = event(Fanout, Event) || Event <- events(2000)],
    in(Session, fun() -> pubsub_fanout:leave(Fanout) end),
    Owing = mentions(Writer, Fanout),
    kill(Writer),
    [equal(1, Owing), equal(0, mentions(Writer, Fanout))].

%% How many maps of a fan-out have something under this key.
mentions(Process, Fanout) ->
    Parts = tuple_to_list(sys:get_state(Fanout)),
    length([Part || Part <- Parts, is_map(Part), is_map_key(Process, Part)]).

who_publishes_while_it_reads_does_not_wait_for_itself({Fanout, _}) ->
    {Session, Socket} = subscriber(Fanout, <<"a">>, websocket),
    in(Session, fun() ->
                        ok = pubsub_fanout:hold(Fanout),
                        ok = event(Fanout, <<"1">>),
                        pubsub_fanout:known(Fanout),
                        pubsub_fanout:release(Fanout)
                end),
    pubsub_fanout:members(Fanout),
    equal([<<"1">>], texts(Socket)).

who_has_left_hears_nothing({Fanout, _}) ->
    {Session, Socket} = subscriber(Fanout, <<"a">>, websocket),
    ok = in(Session, fun() -> pubsub_fanout:leave(Fanout) end),
    ok = event(Fanout, <<"1">>),
    [equal([], texts(Socket)), equal([], pubsub_fanout:members(Fanout))].

who_was_dropped_is_told_so_and_cannot_confirm({Fanout, _}) ->
    {Session, Socket} = subscriber(Fanout, <<"a">>, websocket),
    {_, Other} = subscriber(Fanout, <<"b">>, websocket),
    [{<<"a">>, _, _}] = pubsub_fanout:drop(Fanout, [jid(<<"a">>)]),
    ok = event(Fanout, <<"1">>),
    [equal([{pubsub_fanout, ended, ?KEY, Fanout}], heard(Session)),
     equal(gone, in(Session, fun() -> pubsub_fanout:confirm(Fanout, <<"id">>) end)),
     equal([], texts(Socket)), equal([<<"1">>], texts(Other))].

a_session_that_has_died_is_forgotten({Fanout, Table}) ->
    {Session, _} = subscriber(Fanout, <<"a">>, websocket),
    kill(Session),
    [equal([], pubsub_fanout:members(Fanout)), equal([], ets:tab2list(Table))].

a_session_that_joins_anew_is_one_member({Fanout, _}) ->
    {Session, Socket} = subscriber(Fanout, <<"a">>, websocket),
    in(Session, fun() ->
                        ok = pubsub_fanout:join(Fanout, jid(<<"a">>), {websocket, Socket}),
                        ok = pubsub_fanout:confirm(Fanout, <<"id">>),
                        pubsub_fanout:release(Fanout)
                end),
    ok = event(Fanout, <<"1">>),
    equal([<<"1">>], texts(Socket)).

members_stand_in_the_table_as_long_as_they_are_members({Fanout, Table}) ->
    {Session, _} = subscriber(Fanout, <<"a">>, websocket),
    Before = ets:tab2list(Table),
    ok = in(Session, fun() -> pubsub_fanout:leave(Fanout) end),
    [equal([{{?KEY, jid(<<"a">>), Session}, <<"id a">>}], Before),
     equal([], ets:tab2list(Table))].

a_socket_that_does_not_read_is_closed_by_messages({Fanout, _}) ->
    {_, Socket} = subscriber(Fanout, <<"a">>, websocket),
    {_, Reader} = subscriber(Fanout, <<"b">>, websocket),
    Monitor = monitor(process, Socket),
    in_vain(Socket),
    publish_until_down(Fanout, <<"small">>, Monitor),
    equal(true, is_process_alive(Reader)).

a_socket_that_does_not_read_is_closed_by_bytes({Fanout, _}) ->
    {_, Socket} = subscriber(Fanout, <<"a">>, websocket),
    Monitor = monitor(process, Socket),
    in_vain(Socket),
    [ok = event(Fanout, binary:copy(<<"x">>, 10000)) || _ <- lists:seq(1, 300)],
    receive {'DOWN', Monitor, _, _, Reason} -> equal(killed, Reason) end.

a_bosh_session_that_nobody_polls_is_ended({Fanout, _}) ->
    %% The process reads what comes, and keeps it.
    {Session, _} = subscriber(Fanout, <<"a">>, bosh),
    Monitor = monitor(process, Session),
    publish_until_down(Fanout, binary:copy(<<"x">>, 10000), Monitor).

a_session_that_holds_for_too_long_is_cut({Fanout, _}) ->
    {Session, Socket} = subscriber(Fanout, <<"a">>, websocket),
    Monitor = monitor(process, Socket),
    hold(Session, Fanout),
    [ok = event(Fanout, <<"1">>) || _ <- lists:seq(1, 1001)],
    receive {'DOWN', Monitor, _, _, Reason} -> ok end,
    [equal(killed, Reason), equal([], pubsub_fanout:members(Fanout))].

sessions_that_read_are_left_alone({Fanout, _}) ->
    {_, Socket} = subscriber(Fanout, <<"a">>, websocket),
    Event = binary:copy(<<"x">>, 1000),
    [begin
         ok = event(Fanout, Event),
         Number rem 100 == 0 andalso forget(Socket)
     end || Number <- lists:seq(1, 5000)],
    equal(true, is_process_alive(Socket)).

limits_can_be_changed({Fanout, _}) ->
    {_, Socket} = subscriber(Fanout, <<"a">>, websocket),
    pubsub_fanout:limit(Fanout, #{messages => 10, bytes => 1000000}),
    Monitor = monitor(process, Socket),
    in_vain(Socket),
    [ok = event(Fanout, <<"1">>) || _ <- lists:seq(1, 300)],
    receive {'DOWN', Monitor, _, _, Reason} -> equal(killed, Reason) end.

who_is_idle_asks_its_owner_and_ends({_, Table}) ->
    {ok, Fanout} = pubsub_fanout:start_link(#{key => ?KEY, gate => pubsub_gate:new(), owner => self(),
                                              table => Table, limits => ?LIMITS, idle => 10}),
    receive {pubsub_fanout, idle, ?KEY, Fanout} -> ok end,
    Monitor = monitor(process, Fanout),
    ended = pubsub_fanout:end_if_idle(Fanout),
    receive {'DOWN', Monitor, _, _, Reason} -> equal(normal, Reason) end.

who_has_members_does_not_end({Fanout, _}) ->
    _ = subscriber(Fanout, <<"a">>, websocket),
    equal(busy, pubsub_fanout:end_if_idle(Fanout)).

it_tells_its_members_that_it_has_ended({Fanout, Table}) ->
    {Session, _} = subscriber(Fanout, <<"a">>, websocket),
    ok = pubsub_fanout:stop(Fanout),
    [equal([{pubsub_fanout, ended, ?KEY, Fanout}], heard(Session)),
     equal([], ets:tab2list(Table))].

%% Sessions hold, release, leave and join at random while events come: each hears, in their order,
%% all events from its last confirmation on.
each_hears_what_it_has_to_whatever_happens_meanwhile({Fanout, _}) ->
    rand:seed(exsss, {1, 2, 3}),
    Names = [<<"a">>, <<"b">>, <<"c">>],
    Sessions = maps:from_list([{Name, {subscriber(Fanout, Name, websocket), 0, 1}} || Name <- Names]),
    Last = lists:foldl(fun(Number, Known) -> happen(rand:uniform(6), Number, Fanout, Known) end,
                       Sessions, lists:seq(1, 3000)),
    [equal([integer_to_binary(Number) || Number <- lists:seq(Since, 3000)], texts(Socket))
     || {{Session, Socket}, Holds, Since} <- maps:values(Last),
        ok == lists:foreach(fun(_) -> in(Session, fun() -> pubsub_fanout:release(Fanout) end) end,
                            lists:seq(1, Holds)),
        [] /= pubsub_fanout:members(Fanout)].

happen(Chance, Number, Fanout, Sessions) ->
    Name = lists:nth(rand:uniform(3), maps:keys(Sessions)),
    #{Name := {{Session, Socket}, Holds, Since}} = Sessions,
    New = case Chance of
              1 ->
                  hold(Session, Fanout),
                  {{Session, Socket}, Holds + 1, Since};
              Often when Often < 5, Holds > 0 ->
                  in(Session, fun() -> pubsub_fanout:release(Fanout) end),
                  {{Session, Socket}, Holds - 1, Since};
              6 when Number rem 5 == 0 ->
                  in(Session, fun() -> pubsub_fanout:leave(Fanout) end),
                  {subscriber(Fanout, Name, websocket), 0, Number};
              _ ->
                  {{Session, Socket}, Holds, Since}
          end,
    ok = event(Fanout, integer_to_binary(Number)),
    Sessions#{Name := New}.

%%% By real sockets

a_socket_is_written_to_as_a_websocket_is({Fanout, _}) ->
    {_, _, Page} = page(Fanout, <<"a">>),
    Events = [binary:copy(<<"x">>, Size) || Size <- [1, 125, 126, 65535, 65536, 200000]],
    [ok = event(Fanout, Event) || Event <- Events],
    equal(Events, frames(Page, length(Events))).

a_socket_that_reads_late_hears_all_in_order({Fanout, _}) ->
    {_, _, Page} = page(Fanout, <<"a">>),
    pubsub_fanout:limit(Fanout, #{messages => 100000, bytes => 100000000}),
    Events = events(2000),
    [ok = event(Fanout, Event) || Event <- Events],
    equal(Events, frames(Page, 2000)),
    More = events(10),  % now there is room again
    [ok = event(Fanout, Event) || Event <- More],
    equal(More, frames(Page, 10)).

a_socket_that_reads_late_may_hold_events_meanwhile({Fanout, _}) ->
    {Session, _, Page} = page(Fanout, <<"a">>),
    pubsub_fanout:limit(Fanout, #{messages => 100000, bytes => 100000000}),
    [First, Second, Third] = [events(1000) || _ <- [1, 2, 3]],
    [ok = event(Fanout, Event) || Event <- First],
    hold(Session, Fanout),
    [ok = event(Fanout, Event) || Event <- Second],
    in(Session, fun() -> pubsub_fanout:release(Fanout) end),
    [ok = event(Fanout, Event) || Event <- Third],
    equal(First ++ Second ++ Third, frames(Page, 3000)).

who_comes_again_hears_all_in_order_though_it_reads_late({Fanout, _}) ->
    {Session, Writer, Page} = page(Fanout, <<"a">>),
    pubsub_fanout:limit(Fanout, #{messages => 100000, bytes => 100000000}),
    [First, Second] = [events(2000) || _ <- [1, 2]],
    [ok = event(Fanout, Event) || Event <- First],
    in(Session, fun() ->
                        Socket = get(socket),
                        pubsub_fanout:leave(Fanout),
                        ok = pubsub_fanout:join(Fanout, jid(<<"a">>), {socket, Writer, Socket}),
                        ok = pubsub_fanout:confirm(Fanout, <<"id">>),
                        pubsub_fanout:release(Fanout)
                end),
    [ok = event(Fanout, Event) || Event <- Second],
    equal(First ++ Second, frames(Page, 4000)).

a_socket_that_is_never_read_is_closed({Fanout, _}) ->
    {_, Writer, _} = page(Fanout, <<"a">>),
    Monitor = monitor(process, Writer),
    publish_until_down(Fanout, binary:copy(<<"x">>, 100000), Monitor),
    equal([], pubsub_fanout:members(Fanout)).

a_socket_that_was_closed_does_no_harm({Fanout, _}) ->
    {_, Writer, _} = page(Fanout, <<"a">>),
    {_, _, Other} = page(Fanout, <<"b">>),
    kill(Writer),
    ok = event(Fanout, <<"1">>),
    equal([<<"1">>], frames(Other, 1)).

%% Large enough for the kernel's buffers to be full soon.
events(Count) ->
    [<<(integer_to_binary(Number))/binary, ":", (binary:copy(<<"x">>, 5000))/binary>>
     || Number <- lists:seq(1, Count)].

%% A session, the process of its socket as ejabberd_websocket has it, and the other end.
page(Fanout, Name) ->
    {ok, Listener} = gen_tcp:listen(0, [binary, {ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    {ok, Page} = gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {active, false}]),
    {ok, Socket} = gen_tcp:accept(Listener),
    ok = gen_tcp:close(Listener),
    Writer = spawn(fun() -> write(Socket) end),
    ok = gen_tcp:controlling_process(Socket, Writer),
    Session = session(),
    in(Session, fun() ->
                        put(socket, Socket),
                        ok = pubsub_fanout:join(Fanout, jid(Name), {socket, Writer, Socket}),
                        ok = pubsub_fanout:confirm(Fanout, <<"id">>),
                        pubsub_fanout:release(Fanout)
                end),
    pubsub_fanout:members(Fanout),
    {Session, Writer, Page}.

write(Socket) ->
    receive
        {text_with_reply, Text, Sender} ->
            #{socket := Frame} = pubsub_outlet:prepare([Text], self()),
            gen_tcp:send(Socket, Frame),
            Sender ! {text_reply, self()},
            write(Socket);
        _ ->
            write(Socket)
    end.

frames(_Page, 0) ->
    [];
frames(Page, Count) ->
    [frame(Page) | frames(Page, Count - 1)].

frame(Page) ->
    {ok, <<16#81, Short>>} = gen_tcp:recv(Page, 2),
    Size = case Short of
               126 -> {ok, <<Long:16>>} = gen_tcp:recv(Page, 2), Long;
               127 -> {ok, <<Long:64>>} = gen_tcp:recv(Page, 8), Long;
               _ -> Short
           end,
    {ok, Text} = gen_tcp:recv(Page, Size),
    Text.

%%% Helpers

equal(Expected, Expected) -> ok;
equal(Expected, Found) -> error({expected, Expected, found, Found}).

is_raw({'$gen_sync_all_state_event', {_, _}, {send_xml, {xmlstreamraw, <<"<message/>">>}}}) -> true;
is_raw(_) -> false.

start() ->
    process_flag(trap_exit, true),
    logger:set_primary_config(level, none),
    Table = ets:new(subscriptions, [public, ordered_set]),
    Gate = pubsub_gate:new(),
    {ok, Fanout} = pubsub_fanout:start_link(#{key => ?KEY, gate => Gate, owner => self(), table => Table,
                                              limits => ?LIMITS}),
    persistent_term:put({?MODULE, Fanout}, Gate),
    {Fanout, Table}.

finish({Fanout, Table}) ->
    exit(Fanout, shutdown),
    receive {'EXIT', Fanout, _} -> ok end,
    persistent_term:erase({?MODULE, Fanout}),
    ets:delete(Table).

%% Hand an event over.
give(Fanout, Event) ->
    pubsub_fanout:event(Fanout, persistent_term:get({?MODULE, Fanout}), Event).

%% And see that it is written.
event(Fanout, Event) ->
    ok = give(Fanout, Event),
    _ = pubsub_fanout:members(Fanout),
    ok.

jid(Name) ->
    {Name, <<"guests.localhost">>, <<"page">>}.

%% A session that has subscribed, and the process that writes for it.
subscriber(Fanout, Name, Kind) ->
    Session = session(),
    Writer = case Kind of
                 stream -> Session;
                 _ -> listener()
             end,
    ok = in(Session, fun() -> pubsub_fanout:join(Fanout, jid(Name), {Kind, Writer}) end),
    ok = in(Session, fun() -> pubsub_fanout:confirm(Fanout, <<"id ", Name/binary>>) end),
    in(Session, fun() -> pubsub_fanout:release(Fanout) end),
    pubsub_fanout:members(Fanout),  % it has been released by then
    {Session, Writer}.

%% It holds its events, and has read.
hold(Session, Fanout) ->
    in(Session, fun() ->
                        ok = pubsub_fanout:hold(Fanout),
                        pubsub_fanout:known(Fanout)
                end).

%% A process that hands events over, and ends; it has asked for the first by now.
publish(Fanout, Events) ->
    working(fun() -> [ok = event(Fanout, Event) || Event <- Events] end).

%% A process that does something, and has begun to wait for it, or is done.
working(Work) ->
    {Process, Monitor} = spawn_monitor(Work),
    until_waiting(Process),
    Monitor.

%% It has a message that it has not taken.
until_asked(Fanout) ->
    case process_info(Fanout, message_queue_len) of
        {message_queue_len, 0} -> erlang:yield(), until_asked(Fanout);
        _ -> ok
    end.

is_waiting(Monitor) ->
    receive {'DOWN', Monitor, _, _, _} -> false after 0 -> true end.

until_waiting(Process) ->
    case process_info(Process, current_function) of
        {current_function, {gen, do_call, 4}} -> ok;
        undefined -> ok;
        _ -> erlang:yield(), until_waiting(Process)
    end.

wait(Monitor) ->
    receive {'DOWN', Monitor, _, _, Reason} -> equal(normal, Reason) end.

session() ->
    spawn(fun() -> listen([]) end).

listener() ->
    session().

%% Keeps what it hears; does what it is asked; ends as a stream does, when it is told to stop.
listen(Heard) ->
    receive
        {in, From, Work} -> From ! {done, self(), Work()}, listen(Heard);
        {heard, From} -> From ! {done, self(), lists:reverse(Heard)}, listen(Heard);
        {forget, From} -> From ! {done, self(), ok}, listen([]);
        in_vain -> receive never -> ok end;
        {'$gen_cast', _Stop} -> ok;
        Message -> listen([Message | Heard])
    end.

in(Session, Work) ->
    Session ! {in, self(), Work},
    receive {done, Session, Result} -> Result end.

heard(Listener) ->
    Listener ! {heard, self()},
    receive {done, Listener, Heard} -> Heard end.

forget(Listener) ->
    Listener ! {forget, self()},
    receive {done, Listener, ok} -> ok end.

texts(Socket) ->
    [Text || {text, Text} <- heard(Socket)].

in_vain(Listener) ->
    Listener ! in_vain.

kill(Process) ->
    Monitor = monitor(process, Process),
    exit(Process, kill),
    receive {'DOWN', Monitor, _, _, _} -> ok end.

publish_until_down(Fanout, Event, Monitor) ->
    ok = event(Fanout, Event),
    receive {'DOWN', Monitor, _, _, _} -> ok
    after 0 -> publish_until_down(Fanout, Event, Monitor)
    end.
