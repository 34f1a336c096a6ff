%%% The fan-outs of all servers of the cluster, each of which serves the sessions that are connected to
%%% it.
%%%
%%% Here is how to find this server's fan-outs and its sessions, in the tables that the process of
%%% mod_pubsub_sessions holds, and how to have something done on every server.  What ends in _here is
%%% called from the other servers, by its name and this module's; so all of them have to have the same
%%% version of it.
%%%
%%% It must not know what is asked and who may ask it, nor what mod_pubsub has.  It stands below
%%% pubsub_requests and pubsub_owners, and above pubsub_fanout.  Of mod_pubsub_sessions, which is on
%%% top, it knows nothing but the name of its process, and asks that to start and to end fan-outs.
-module(pubsub_cluster).

-export([server/1, fanouts/1, subscriptions/1, whereis_fanout/2, join/3]).
-export([event/4, subscribers/1, drop/2, end_sessions/1, deleted/1]).
-export([event_here/3, subscribers_here/2, drop_here/3, end_sessions_here/2, deleted_here/2]).

-include_lib("kernel/include/logger.hrl").

-define(REMOTE_LIMIT, timer:seconds(5)).   % for another node of the cluster

%%% What is here

-spec server(binary()) -> atom().
server(Host) ->
    gen_mod:get_module_proc(Host, mod_pubsub_sessions).

-spec fanouts(binary()) -> atom().
fanouts(Host) ->
    gen_mod:get_module_proc(Host, mod_pubsub_sessions_fanouts).

-spec subscriptions(binary()) -> atom().
subscriptions(Host) ->
    gen_mod:get_module_proc(Host, mod_pubsub_sessions_subscriptions).

-spec whereis_fanout(binary(), pubsub_rows:key()) -> {ok, pid()} | none.
whereis_fanout(Host, Key) ->
    case ets:lookup(fanouts(Host), Key) of
        [{_, Fanout, _}] -> {ok, Fanout};
        [] -> none
    end.

%% gone: the node is not there any more.
-spec join(pubsub_rows:key(), jid:ljid(), pubsub_outlet:target()) -> {ok, pid()} | gone.
join({Service, _, _} = Key, JID, Target) ->
    Host = ejabberd_router:host_of_route(Service),
    case whereis_fanout(Host, Key) of
        {ok, Fanout} ->
            try pubsub_fanout:join(Fanout, JID, Target) of
                ok -> {ok, Fanout}
            catch
                exit:_ -> join_anew(Host, Key, JID, Target)  % it has just ended
            end;
        none ->
            join_anew(Host, Key, JID, Target)
    end.

join_anew(Host, Key, JID, Target) ->
    case gen_server:call(server(Host), {fanout, Key}, infinity) of
        {ok, Fanout} ->
            try pubsub_fanout:join(Fanout, JID, Target) of
                ok -> {ok, Fanout}
            catch
                exit:_ -> gone  % and mod_pubsub serves it
            end;
        gone ->
            gone
    end.

%%% What is done on all servers

%% Hand an event to the sessions of one server, by its name.  A node that is not there has none.
-spec event(binary(), Erlang :: binary(), binary(), binary()) -> ok.
event(Service, Erlang, Node, Event) ->
    [on(Each, event_here, [Service, Node, Event])
     || Each <- ejabberd_cluster:get_nodes(), atom_to_binary(Each) == Erlang],
    ok.

%% A node is not there any more.
-spec deleted(pubsub_rows:key()) -> ok.
deleted({Service, _, _} = Key) ->
    everywhere(deleted_here, [Service, Key]),
    ok.

-spec end_sessions(pubsub_rows:key()) -> ok.
end_sessions({Service, _, _} = Key) ->
    everywhere(end_sessions_here, [Service, Key]),
    ok.

-spec subscribers(pubsub_rows:key()) -> [{jid:ljid(), SubId :: binary()}].
subscribers({Service, _, _} = Key) ->
    lists:usort(lists:append([Found || {ok, Found} <- everywhere(subscribers_here, [Service, Key])])).

%% Those that were there; and whether all servers have been reached.
-spec drop(pubsub_rows:key(), [jid:ljid()]) -> {[jid:ljid()], boolean()}.
drop(_Key, []) ->
    {[], true};
drop({Service, _, _} = Key, JIDs) ->
    Answers = everywhere(drop_here, [Service, Key, JIDs]),
    {lists:append([Dropped || {ok, Dropped} <- Answers]), not lists:member(error, Answers)}.

%% An event crosses to a node once, and has got there when this returns.
-spec on(node(), atom(), list()) -> {ok, term()} | error.
on(Node, Function, Args) when Node == node() ->
    {ok, apply(?MODULE, Function, Args)};
on(Node, Function, Args) ->
    try {ok, erpc:call(Node, ?MODULE, Function, Args, ?REMOTE_LIMIT)}
    catch Class:Reason ->
            ?LOG_ERROR("~ts of ~ts: ~p", [Function, Node, {Class, Reason}]),
            error
    end.

-spec everywhere(atom(), list()) -> [{ok, term()} | error].
everywhere(Function, Args) ->
    [on(Node, Function, Args) || Node <- ejabberd_cluster:get_nodes()].

%%% What is done here for any of them

-spec event_here(binary(), binary(), binary()) -> ok.
event_here(Service, Node, Event) ->
    Host = ejabberd_router:host_of_route(Service),
    Here = ets:select(fanouts(Host), [{{{Service, Node, '_'}, '$1', '$2'}, [], [{{'$1', '$2'}}]}]),
    lists:foreach(fun({Fanout, Gate}) ->
                          try pubsub_fanout:event(Fanout, Gate, Event)
                          catch exit:_ -> ok  % it has ended, and its sessions are about to hear so
                          end
                  end, Here).

%% Those that have been confirmed.
-spec subscribers_here(binary(), pubsub_rows:key()) -> [{jid:ljid(), binary()}].
subscribers_here(Service, Key) ->
    with_fanout(Service, Key, fun pubsub_fanout:members/1).

-spec drop_here(binary(), pubsub_rows:key(), [jid:ljid()]) -> [jid:ljid()].
drop_here(Service, Key, JIDs) ->
    with_fanout(Service, Key, fun(Fanout) -> pubsub_fanout:drop(Fanout, JIDs) end).

-spec with_fanout(binary(), pubsub_rows:key(), fun((pid()) -> list())) -> list().
with_fanout(Service, Key, Function) ->
    case whereis_fanout(ejabberd_router:host_of_route(Service), Key) of
        {ok, Fanout} ->
            try Function(Fanout)
            catch exit:_ -> []  % its sessions are about to end
            end;
        none ->
            []
    end.

%% They come again.
-spec end_sessions_here(binary(), pubsub_rows:key()) -> ok.
end_sessions_here(Service, Key) ->
    Table = subscriptions(ejabberd_router:host_of_route(Service)),
    lists:foreach(fun ejabberd_c2s:stop_async/1,
                  ets:select(Table, [{{{Key, '_', '$1'}, '_'}, [], ['$1']}])).

-spec deleted_here(binary(), pubsub_rows:key()) -> ok.
deleted_here(Service, Key) ->
    gen_server:call(server(ejabberd_router:host_of_route(Service)), {deleted, Key}, infinity).
