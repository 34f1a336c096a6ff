%%% What pubsub_gate promises, without anybody who reads or writes.
-module(pubsub_gate_tests).

-export([who_publishes_passes_so_often_ahead_of_what_is_written_test/0,
         nobody_passes_while_it_is_closed_or_closing_test/0,
         it_is_closed_at_once_when_all_is_written_test/0,
         it_is_closed_when_what_was_on_its_way_is_written_test/0,
         whose_limit_has_passed_is_closed_without_what_is_missing_test/0,
         what_comes_late_is_missing_no_more_test/0,
         it_tells_when_it_has_waited_for_long_enough_test/0]).

who_publishes_passes_so_often_ahead_of_what_is_written_test() ->
    {Gate, Keeper} = gate(),
    [ok = pubsub_gate:pass(Gate) || _ <- lists:seq(1, 32)],
    wait = pubsub_gate:pass(Gate),
    _ = pubsub_gate:written(1, Keeper),
    ok = pubsub_gate:pass(Gate),
    wait = pubsub_gate:pass(Gate).

nobody_passes_while_it_is_closed_or_closing_test() ->
    {Gate, Keeper} = gate(),
    ok = pubsub_gate:pass(Gate),
    {closing, Closing} = pubsub_gate:close(Keeper),
    wait = pubsub_gate:pass(Gate),
    {closed, Closed} = pubsub_gate:close(pubsub_gate:written(1, Closing)),
    wait = pubsub_gate:pass(Gate),
    _ = pubsub_gate:open(Closed),
    ok = pubsub_gate:pass(Gate).

it_is_closed_at_once_when_all_is_written_test() ->
    {Gate, Keeper} = gate(),
    ok = pubsub_gate:pass(Gate),
    {closed, Closed} = pubsub_gate:close(pubsub_gate:written(1, Keeper)),
    true = pubsub_gate:is_closed(Closed),
    false = pubsub_gate:is_closed(pubsub_gate:open(Closed)).

it_is_closed_when_what_was_on_its_way_is_written_test() ->
    {Gate, Keeper} = gate(),
    [ok = pubsub_gate:pass(Gate) || _ <- [1, 2]],
    {closing, Closing} = pubsub_gate:close(pubsub_gate:written(1, Keeper)),
    false = pubsub_gate:is_closed(Closing),
    {closing, Still} = pubsub_gate:close(Closing),
    {closed, _} = pubsub_gate:close(pubsub_gate:written(1, Still)).

whose_limit_has_passed_is_closed_without_what_is_missing_test() ->
    logger:set_primary_config(level, none),
    {Gate, Keeper} = gate(),
    ok = pubsub_gate:pass(Gate),
    {closing, Closing} = pubsub_gate:close(Keeper),
    GivenUp = pubsub_gate:give_up(Closing),
    true = pubsub_gate:is_closed(GivenUp),
    {closed, Again} = pubsub_gate:close(pubsub_gate:open(GivenUp)),  % nor is it waited for again
    Open = pubsub_gate:open(Again),
    ok = pubsub_gate:pass(Gate),
    {closing, Later} = pubsub_gate:close(Open),
    {closed, _} = pubsub_gate:close(pubsub_gate:written(1, Later)).

what_comes_late_is_missing_no_more_test() ->
    logger:set_primary_config(level, none),
    {Gate, Keeper} = gate(),
    ok = pubsub_gate:pass(Gate),
    {closing, Closing} = pubsub_gate:close(Keeper),
    Late = pubsub_gate:written(1, pubsub_gate:give_up(Closing)),
    Open = pubsub_gate:open(Late),
    ok = pubsub_gate:pass(Gate),
    {closing, _} = pubsub_gate:close(Open).

it_tells_when_it_has_waited_for_long_enough_test() ->
    {Gate, Keeper} = gate(),
    ok = pubsub_gate:pass(Gate),
    {closing, Closing} = pubsub_gate:close(Keeper),
    Timer = timer_of(Closing),
    {closed, Closed} = pubsub_gate:close(pubsub_gate:written(1, Closing)),
    false = pubsub_gate:is_waiting(Timer, Closed).

%%% Helpers

%% When it is over.  (Timers of other tests may be, too.)
timer_of(Closing) ->
    receive
        {timeout, Timer, pubsub_gate} ->
            case pubsub_gate:is_waiting(Timer, Closing) of
                true -> Timer;
                false -> timer_of(Closing)
            end
    end.

gate() ->
    Gate = pubsub_gate:new(),
    {Gate, pubsub_gate:keeper(Gate)}.
