%%% The gate of a node: whether who publishes there has to wait, and how many events are on their way.
%%%
%%% Who publishes does not wait, unless somebody reads or wants to, or more than a few events are under
%%% way.  Before somebody reads the gate is closed, and all that was handed over is written; while it
%%% is closed publishers wait, each with one event, which is then the last one of his that a reader can
%%% find.
%%%
%%% Publishers share two numbers, which they read and count without a process.  The process that
%%% writes has the *keeper* of these: it opens and closes the gate, and knows what was counted and does
%%% not come.
%%%
%%% It must not know what an event is, how it is handed over, nor who reads: it stands below
%%% pubsub_fanout, and calls none of the other rooms.
-module(pubsub_gate).

-export([new/0, pass/1]).
-export([keeper/1, is_closed/1, close/1, open/1, written/2, is_waiting/2, give_up/1]).

-export_type([gate/0, keeper/0]).

-include_lib("kernel/include/logger.hrl").

-define(AHEAD, 32).                 % events that are handed over, and not written yet
-define(CLOSE_LIMIT, timer:seconds(1)).

%% How many events have been handed over that are not written, and whether publishers have to wait.
-opaque gate() :: atomics:atomics_ref().

-define(HANDED_OVER, 1).
-define(CLOSED, 2).

-record(keeper, {gate :: gate(),
                 closed = false :: false | reference() | true,  % a timer: what is on its way is waited for
                 missing = 0 :: non_neg_integer()}).  % events that were counted, and have not come

-opaque keeper() :: #keeper{}.

-spec new() -> gate().
new() ->
    atomics:new(2, [{signed, true}]).

%%% Who publishes

%% ok: one event is counted, and has to be handed over at once.  wait: none is.
%% It is counted before the gate is looked at.  So who closes it finds each one that was not stopped.
-spec pass(gate()) -> ok | wait.
pass(Gate) ->
    case atomics:add_get(Gate, ?HANDED_OVER, 1) =< ?AHEAD andalso atomics:get(Gate, ?CLOSED) == 0 of
        true ->
            ok;
        false ->
            atomics:sub(Gate, ?HANDED_OVER, 1),
            wait
    end.

%%% The process that writes

%% Of a new gate, which is open.
-spec keeper(gate()) -> keeper().
keeper(Gate) ->
    #keeper{gate = Gate}.

-spec is_closed(keeper()) -> boolean().
is_closed(#keeper{closed = Closed}) ->
    Closed == true.

%% closing: it is to be asked again when something is written.  What has been handed over and is not
%% here yet is about to come; or its publisher, to wait.  After a second without it the caller is told
%% {timeout, Timer, pubsub_gate}.
-spec close(keeper()) -> {closed | closing, keeper()}.
close(#keeper{closed = true} = Keeper) ->
    {closed, Keeper};
close(#keeper{closed = Before, gate = Gate} = Keeper) ->
    Before == false andalso atomics:put(Gate, ?CLOSED, 1),
    #keeper{missing = Missing} = Looked
        = look_for_missing(atomics:get(Gate, ?HANDED_OVER), Keeper),
    case {atomics:get(Gate, ?HANDED_OVER) =< Missing, Before} of
        {true, false} ->
            {closed, Looked#keeper{closed = true}};
        {true, Timer} ->
            erlang:cancel_timer(Timer),
            {closed, Looked#keeper{closed = true}};
        {false, false} ->
            Timer = erlang:start_timer(?CLOSE_LIMIT, self(), ?MODULE),
            {closing, Looked#keeper{closed = Timer}};
        {false, _Timer} ->
            {closing, Looked}
    end.

-spec open(keeper()) -> keeper().
open(#keeper{closed = false} = Keeper) ->
    Keeper;
open(#keeper{closed = Closed, gate = Gate} = Keeper) ->
    is_reference(Closed) andalso erlang:cancel_timer(Closed),
    atomics:put(Gate, ?CLOSED, 0),
    Keeper#keeper{closed = false}.

%% So many of those that were counted.
-spec written(non_neg_integer(), keeper()) -> keeper().
written(Count, #keeper{gate = Gate} = Keeper) ->
    look_for_missing(atomics:sub_get(Gate, ?HANDED_OVER, Count), Keeper).

%% Whether a timer is that of the gate, which is still closing.
-spec is_waiting(reference(), keeper()) -> boolean().
is_waiting(Timer, #keeper{closed = Closed}) ->
    Timer == Closed.

%% It is closed without those that have not come: a publisher has died between two words, or sleeps.
-spec give_up(keeper()) -> keeper().
give_up(#keeper{gate = Gate} = Keeper) ->
    Missing = max(0, atomics:get(Gate, ?HANDED_OVER)),
    Missing == 0 orelse ?LOG_WARNING("~b events have been counted, and did not come", [Missing]),
    Keeper#keeper{closed = true, missing = Missing}.

%%% Private

%% There are no more than are counted; those that come late are not missing any more.
-spec look_for_missing(integer(), keeper()) -> keeper().
look_for_missing(Count, #keeper{missing = Missing} = Keeper) ->
    Keeper#keeper{missing = max(0, min(Count, Missing))}.
