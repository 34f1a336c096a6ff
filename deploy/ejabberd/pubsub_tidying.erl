%%% The memory of sessions, tidied a moment after they have asked for something: pages are idle most of
%%% the time, with the garbage of what they have asked.
%%%
%%% What it relies on, seen with ejabberd 23.01: {http_ws, Pid, _} or {http_bind, Pid, _} in the state's
%%% socket names a stream's second process, and the third, which has the connection, monitors that one.
%%%
%%% It must not know what was asked, nor by whom: it stands at the bottom, and calls none of the other
%%% rooms.
-module(pubsub_tidying).

-export([later/1, tidy/1]).

-define(TIDYING, 100).              % ms after what a session has asked

%% A visitor who has just subscribed holds 85 kB, of which 14 are in use.  His three processes would
%% keep the rest for as long as nothing else happens.
-spec later(ejabberd_c2s:state()) -> ejabberd_c2s:state().
later(#{pubsub_guard_tidying := true} = State) ->
    State;
later(State) ->
    erlang:send_after(?TIDYING, self(), {?MODULE, tidy}),
    State#{pubsub_guard_tidying => true}.

%% In the process of the session, when it hears {pubsub_tidying, tidy}.
-spec tidy(ejabberd_c2s:state()) -> ejabberd_c2s:state().
tidy(State) ->
    Pids = processes(State),
    %% From outside: less is in use when they wait than in the midst of this.  A heap shrinks by steps.
    spawn(fun() -> [erlang:garbage_collect(Pid) || _ <- [1, 2], Pid <- Pids] end),
    maps:remove(pubsub_guard_tidying, State).

%% Those of a stream, ours included; of a stream over TCP there is one only.
-spec processes(ejabberd_c2s:state()) -> [pid()].
processes(#{socket := Socket}) when is_tuple(Socket) ->
    [self() | lists:append([[Pid | monitoring(Pid)]
                            || {Kind, Pid, _} <- tuple_to_list(Socket),
                               Kind == http_ws orelse Kind == http_bind])];
processes(_State) ->
    [self()].

-spec monitoring(pid()) -> [pid()].
monitoring(Pid) ->
    case process_info(Pid, monitored_by) of
        {monitored_by, By} -> [Each || Each <- By, is_pid(Each), Each =/= self()];
        undefined -> []
    end.
