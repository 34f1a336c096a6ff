%%% Serves the subscriptions of sessions without a copy of the event for each of them.
%%%
%%% A subscription by full JID lives and dies with its session.  mod_pubsub decides on it as before;
%%% then this module takes it over: mod_pubsub forgets it, and a process of the node (pubsub_fanout)
%%% writes events to the sessions by the shortest way there is.  For mod_pubsub the module is one
%%% subscriber, by an address of its own, `sessions.SERVICE/ERLANG-NODE`.  On the wire nothing differs
%%% from XEP-0060 as mod_pubsub speaks it, but that events have no `to`, and are much faster.
%%% deploy/ejabberd.yml loads it for the host that has mod_pubsub, and says how to install it.
%%%
%%% What stays mod_pubsub's: subscribers by bare JID, components and other servers, nodes with
%%% presence_based_delivery or broadcast_all_resources, sessions of hosts with mod_stream_mgmt (which
%%% counts stanzas), and those that were there before the module.  Modules that look at what a session
%%% receives (hook user_receive_packet: privacy lists, archives) do not see the events.
%%%
%%% Who ends a subscription, or reads who subscribes, asks mod_pubsub, to which the subscription is
%%% lent for the time of the request.
%%%
%%% What else differs from mod_pubsub alone:
%%% - max_subscriptions_node counts the module, once for each server of the cluster, and not its
%%%   sessions;
%%% - <subscriptions/> of a session lists those of that session, and what mod_pubsub has of the user;
%%% - a server that has left the cluster for good leaves a subscription of the module's behind.
%%%
%%% What it relies on, tried with ejabberd 23.01:
%%% - mod_pubsub serves a request in the process of whoever sent it, by the functions that stand in
%%%   the table of gen_iq_handler; its events go through ejabberd_router, in that process, too;
%%% - hooks c2s_session_opened, c2s_handle_info and user_receive_packet run in the session's process;
%%% - mod_pubsub keeps each subscription in the Mnesia table pubsub_state (db_type: mnesia).
%%%
%%% It has several rooms.  Each calls those that stand below it, and never one above:
%%%
%%%     mod_pubsub_sessions              the doors, and the process that holds the tables
%%%     pubsub_requests, pubsub_owners   what a session asks of mod_pubsub, and what an owner asks
%%%     pubsub_address                   what comes to the module's own address
%%%     pubsub_cluster                   the fan-outs of all servers
%%%     pubsub_rows, pubsub_stanzas      what mod_pubsub has; XML
%%%     pubsub_fanout                    the sessions of one node
%%%     pubsub_gate                      whether who publishes has to wait
%%%     pubsub_backlog                   what waits for one session
%%%     pubsub_outlet                    how a session is written to
%%%
%%% Here it must not be known how a request is served, nor what a session remembers.
-module(mod_pubsub_sessions).

-behaviour(gen_mod).
-behaviour(gen_server).

-export([start/2, stop/1, reload/3, depends/2, mod_opt_type/1, mod_options/1, mod_doc/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export([c2s_session_opened/1, c2s_handle_info/2, user_receive_packet/1, c2s_terminated/2,
         pubsub_delete_node/4]).
-export([decode_iq_subel/1, process_pubsub/1, process_pubsub_owner/1, process_disco_info/1]).
-export([is_subscribed/1]).

-include_lib("kernel/include/logger.hrl").

-define(NS_PUBSUB, <<"http://jabber.org/protocol/pubsub">>).
-define(NS_PUBSUB_OWNER, <<"http://jabber.org/protocol/pubsub#owner">>).
-define(NS_DISCO_INFO, <<"http://jabber.org/protocol/disco#info">>).

-define(LOOK, 200).                        % ms; after mod_pubsub, which may have been started again
-define(REPAIR, timer:seconds(10)).

%% As in fast_xml's fxml.hrl, whose application has another name in Debian.
-record(xmlel, {name = <<>> :: binary(),
                attrs = [] :: [{binary(), binary()}],
                children = [] :: list()}).

-type iq() :: tuple().

%%% gen_mod

-spec start(binary(), gen_mod:opts()) -> {ok, pid()} | {error, term()}.
start(Host, Opts) ->
    %% Rather not at all than without one of its rooms.
    ok = code:ensure_modules_loaded([pubsub_requests, pubsub_owners, pubsub_address, pubsub_cluster,
                                     pubsub_rows, pubsub_stanzas, pubsub_fanout, pubsub_gate,
                                     pubsub_backlog, pubsub_outlet]),
    gen_mod:start_child(?MODULE, Host, Opts).

-spec stop(binary()) -> ok | {error, term()}.
stop(Host) ->
    gen_mod:stop_child(?MODULE, Host).

-spec reload(binary(), gen_mod:opts(), gen_mod:opts()) -> ok.
reload(Host, NewOpts, _OldOpts) ->
    gen_server:cast(pubsub_cluster:server(Host), {limit, limits(NewOpts)}).

-spec depends(binary(), gen_mod:opts()) -> [{module(), hard | soft}].
depends(_Host, _Opts) ->
    [{mod_pubsub, hard}].

-spec mod_opt_type(atom()) -> econf:validator().
mod_opt_type(access) -> econf:acl();
mod_opt_type(items_in_memory) -> econf:bool();
mod_opt_type(max_queue) -> econf:pos_int();
mod_opt_type(max_queue_size) -> econf:pos_int().

-spec mod_options(binary()) -> [{atom(), term()}].
mod_options(_Host) ->
    [{access, none},
     {items_in_memory, false},
     {max_queue, 5000},
     {max_queue_size, 10000000}].

-spec mod_doc() -> #{desc := binary()}.
mod_doc() ->
    #{desc => <<"Serves the subscriptions of sessions to nodes of mod_pubsub without a copy of the "
                "event for each of them.  The options are explained in django-pubsub's "
                "deploy/ejabberd.yml.">>}.

%%% The process: it holds the tables, starts a fan-out for each node, and looks after mod_pubsub

-record(state, {host :: binary(),
                services :: [binary()],
                limits :: pubsub_outlet:limits(),
                fanouts = #{} :: #{pid() => pubsub_rows:key()}}).

init([Host, Opts]) ->
    case mod_pubsub_opt:db_type(Host) of
        mnesia ->
            gen_mod:get_opt(items_in_memory, Opts) andalso keep_items_in_memory(),
            begin_serving(Host, Opts);
        Type ->
            ?LOG_ERROR("~ts: mod_pubsub's db_type is ~ts, and has to be mnesia: mod_pubsub serves all "
                       "subscriptions itself", [Host, Type]),
            ignore
    end.

%% mod_pubsub keeps items on the disc only, and reads all those of a node for the last one, or for a
%% page of them.  Once changed they stay in memory, and on the disc as before.
-spec keep_items_in_memory() -> ok.
keep_items_in_memory() ->
    case mnesia:table_info(pubsub_item, storage_type) of
        disc_only_copies ->
            case mnesia:change_table_copy_type(pubsub_item, node(), disc_copies) of
                {atomic, ok} -> ok;
                {aborted, Reason} -> ?LOG_ERROR("Items cannot be kept in memory: ~0p", [Reason])
            end;
        _ ->
            ok
    end.

begin_serving(Host, Opts) ->
    process_flag(trap_exit, true),
    %% Fan-outs by key, and ids of subscriptions by {key, JID, session}.
    ets:new(pubsub_cluster:fanouts(Host),
            [named_table, protected, ordered_set, {read_concurrency, true}]),
    ets:new(pubsub_cluster:subscriptions(Host),
            [named_table, public, ordered_set, {write_concurrency, true}]),
    Services = gen_mod:get_module_opt_hosts(Host, mod_pubsub),
    lists:foreach(
      fun(Service) ->
              pubsub_rows:forget_own(Service),
              ejabberd_router:register_route(pubsub_rows:address(Service), Host,
                                             {apply, pubsub_address, route})
      end, Services),
    ejabberd_hooks:add(pubsub_delete_node, Host, ?MODULE, pubsub_delete_node, 50),
    add_hooks(),
    wrap(Services),
    {ok, _} = timer:send_interval(?LOOK, look),
    {ok, _} = timer:send_interval(?REPAIR, repair),
    {ok, #state{host = Host, services = Services, limits = limits(Opts)}}.

handle_call({fanout, {Service, Node, Index} = Key}, _From, State) ->
    case pubsub_rows:is_alive(Service, Node, Index)
        andalso pubsub_cluster:whereis_fanout(State#state.host, Key) of
        false ->
            {reply, gone, State};  % or the number may be another's, with a fan-out of its own
        {ok, Fanout} ->
            case is_process_alive(Fanout) of
                true -> {reply, {ok, Fanout}, State};
                false -> start_fanout(Key, ended(Fanout, State))
            end;
        none ->
            start_fanout(Key, State)
    end;
handle_call({deleted, {Service, Node, Index} = Key}, _From, State) ->
    case pubsub_cluster:whereis_fanout(State#state.host, Key) of
        {ok, Fanout} ->
            %% Who has subscribed to another one of the same name, which was made at once, comes again.
            case pubsub_rows:node(Service, Node) of
                {ok, Index, _, _} -> pubsub_cluster:end_sessions_here(Service, Key);
                _ -> ok
            end,
            try pubsub_fanout:stop(Fanout) catch exit:_ -> ok end,
            {reply, ok, removed(Fanout, State)};
        none ->
            {reply, ok, State}
    end.

handle_cast({limit, Limits}, #state{fanouts = Fanouts} = State) ->
    lists:foreach(fun(Fanout) -> pubsub_fanout:limit(Fanout, Limits) end, maps:keys(Fanouts)),
    {noreply, State#state{limits = Limits}}.

handle_info(look, #state{services = Services} = State) ->
    wrap(Services),
    {noreply, State};
handle_info(repair, State) ->
    add_hooks(),  % for hosts that there were not before
    {noreply, repair(State)};
handle_info({route, Packet}, State) ->
    %% From another node of the cluster, where the module is not running.
    pubsub_address:route(Packet),
    {noreply, State};
handle_info({pubsub_fanout, idle, _Key, Fanout}, State) ->
    try pubsub_fanout:end_if_idle(Fanout) of
        ended -> {noreply, ended(Fanout, State)};
        busy -> {noreply, State}
    catch
        exit:_ -> {noreply, ended(Fanout, State)}
    end;
handle_info({'EXIT', Fanout, Reason}, State) when Reason == normal; is_map_key(Fanout, State#state.fanouts) ->
    Reason == normal orelse ?LOG_ERROR("A fan-out has failed: ~p", [Reason]),
    {noreply, ended(Fanout, State)};
handle_info(_Info, State) ->
    {noreply, State}.

%% Sessions come again, and subscribe with mod_pubsub then.
terminate(_Reason, #state{host = Host, services = Services, fanouts = Fanouts}) ->
    lists:foreach(fun unwrap/1, Services),
    %% Sessions of all hosts may have subscribed to another service, too.
    [ejabberd_hooks:delete(Hook, Each, ?MODULE, Hook, 40)
     || Each <- ejabberd_option:hosts(), Hook <- session_hooks(), served_hosts() -- [Host] == []],
    ejabberd_hooks:delete(pubsub_delete_node, Host, ?MODULE, pubsub_delete_node, 50),
    [ejabberd_router:unregister_route(pubsub_rows:address(Service)) || Service <- Services],
    element(1, init:get_status()) == stopping
        orelse [ejabberd_c2s:stop_async(Session)
               || {{_, _, Session}, _} <- ets:tab2list(pubsub_cluster:subscriptions(Host))],
    maps:foreach(fun(Fanout, {Service, _, Index}) ->
                         unlink(Fanout),
                         exit(Fanout, shutdown),
                         pubsub_rows:forget_state(pubsub_rows:own(Service), Index)
                 end, Fanouts).

-spec session_hooks() -> [atom()].
session_hooks() ->
    [c2s_session_opened, c2s_handle_info, user_receive_packet, c2s_terminated].

-spec add_hooks() -> ok.
add_hooks() ->
    [ejabberd_hooks:add(Hook, Each, ?MODULE, Hook, 40)
     || Each <- ejabberd_option:hosts(), Hook <- session_hooks()],
    ok.

-spec served_hosts() -> [binary()].
served_hosts() ->
    [Host || Host <- ejabberd_option:hosts(), ets:whereis(pubsub_cluster:fanouts(Host)) /= undefined].

%% A node that was deleted where this one could not be told; and what is the module's own as a
%% subscriber, whoever has taken it away.
-spec repair(#state{}) -> #state{}.
repair(#state{fanouts = Fanouts} = State) ->
    maps:fold(fun(Fanout, {Service, Node, Index} = Key, Acc) ->
                      case pubsub_rows:is_alive(Service, Node, Index) of
                          true ->
                              Own = pubsub_rows:own(Service),
                              pubsub_rows:has_state(Own, Index)
                                  orelse pubsub_rows:write_state(Own, Index, <<"sessions">>),
                              Acc;
                          false ->
                              pubsub_cluster:end_sessions_here(Service, Key),
                              try pubsub_fanout:stop(Fanout) catch exit:_ -> ok end,
                              removed(Fanout, Acc)
                      end
              end, State, Fanouts).

start_fanout({Service, _, Index} = Key, #state{host = Host, fanouts = Fanouts} = State) ->
    Gate = pubsub_gate:new(),
    {ok, Fanout} = pubsub_fanout:start_link(#{key => Key, gate => Gate, owner => self(),
                                              table => pubsub_cluster:subscriptions(Host),
                                              limits => State#state.limits}),
    ets:insert(pubsub_cluster:fanouts(Host), {Key, Fanout, Gate}),
    pubsub_rows:write_state(pubsub_rows:own(Service), Index, <<"sessions">>),
    {reply, {ok, Fanout}, State#state{fanouts = Fanouts#{Fanout => Key}}}.

ended(Fanout, #state{fanouts = Fanouts} = State) ->
    case Fanouts of
        #{Fanout := {Service, Node, Index}} ->
            pubsub_rows:is_alive(Service, Node, Index)
                andalso pubsub_rows:forget_state(pubsub_rows:own(Service), Index);
        _ ->
            ok
    end,
    removed(Fanout, State).

%% With its node, of which mod_pubsub knows nothing any more: its number may be another's already.
removed(Fanout, #state{host = Host, fanouts = Fanouts} = State) ->
    case maps:take(Fanout, Fanouts) of
        {Key, Others} ->
            ets:delete(pubsub_cluster:fanouts(Host), Key),
            ets:match_delete(pubsub_cluster:subscriptions(Host), {{Key, '_', '_'}, '_'}),
            State#state{fanouts = Others};
        error ->
            State
    end.

%% In front of mod_pubsub's own.
-spec wrap([binary()]) -> ok.
wrap(Services) ->
    [gen_iq_handler:add_iq_handler(ejabberd_local, Service, Namespace, ?MODULE, Function)
     || Service <- Services, {Namespace, Function} <- wrapped(),
        ets:lookup(ejabberd_local, {Service, Namespace}) == [{{Service, Namespace}, mod_pubsub, Function}]],
    ok.

-spec unwrap(binary()) -> ok.
unwrap(Service) ->
    [gen_iq_handler:add_iq_handler(ejabberd_local, Service, Namespace, mod_pubsub, Function)
     || {Namespace, Function} <- wrapped(),
        ets:lookup(ejabberd_local, {Service, Namespace}) == [{{Service, Namespace}, ?MODULE, Function}]],
    ok.

-spec wrapped() -> [{Namespace :: binary(), atom()}].
wrapped() ->
    [{?NS_PUBSUB, process_pubsub}, {?NS_PUBSUB_OWNER, process_pubsub_owner},
     {?NS_DISCO_INFO, process_disco_info}].

%%% In the process of a session

-spec c2s_session_opened(ejabberd_c2s:state()) -> ejabberd_c2s:state().
c2s_session_opened(#{jid := JID, lserver := Host} = State) ->
    case gen_mod:is_loaded(Host, mod_stream_mgmt) of
        true -> ok;
        false -> pubsub_requests:begin_session(jid:tolower(JID), pubsub_outlet:of_stream(State))
    end,
    State.

-spec c2s_handle_info(ejabberd_c2s:state(), term()) ->
          ejabberd_c2s:state() | {stop, ejabberd_c2s:state()}.
c2s_handle_info(#{socket := Socket} = State, {pubsub_outlet, send, Event}) ->
    ok == xmpp_socket:send(Socket, Event) orelse (self() ! {'$gen_event', closed}),
    {stop, State};
c2s_handle_info(State, {pubsub_requests, release, Fanout}) ->
    pubsub_fanout:release(Fanout),
    {stop, State};
c2s_handle_info(State, {pubsub_fanout, ended, {Service, Node, _}, Fanout}) ->
    pubsub_requests:forget(Service, Node, Fanout),
    {stop, State};
c2s_handle_info(#{lang := Lang} = State, {'DOWN', Monitor, process, _, _}) ->
    case pubsub_requests:has_lost(Monitor) of
        false ->
            State;
        true ->
            Text = <<"Events of a node have been lost">>,
            {stop, ejabberd_c2s:send(State, xmpp:serr_reset(Text, Lang))}
    end;
c2s_handle_info(State, _Info) ->
    State.

%% An event that mod_pubsub has begun to send before it forgot the subscription comes by the fan-out,
%% too, or was there before the answer; here it could come after a later one.
-spec user_receive_packet({tuple() | drop, ejabberd_c2s:state()}) ->
          {tuple() | drop, ejabberd_c2s:state()} | {stop, {drop, ejabberd_c2s:state()}}.
user_receive_packet({Packet, State}) when element(1, Packet) == message ->
    case pubsub_requests:service_of(xmpp:get_from(Packet)) of
        none ->
            {Packet, State};
        Service ->
            case pubsub_stanzas:event_of(pubsub_stanzas:elements(Packet)) of
                {ok, Node} ->
                    case pubsub_requests:is_served(Service, Node) of
                        false -> {Packet, State};
                        true -> {stop, {drop, State}}
                    end;
                none ->
                    {Packet, State}
            end
    end;
user_receive_packet(Acc) ->
    Acc.

%% Before the session is waited for, which may take a while.
-spec c2s_terminated(ejabberd_c2s:state(), term()) -> ejabberd_c2s:state().
c2s_terminated(State, _Reason) ->
    pubsub_requests:leave_all(),
    State.

%% For mod_pubsub_guard.  Whether the session in whose process this is called has a subscription of
%% its own.
-spec is_subscribed(mod_pubsub:nodeIdx()) -> boolean().
is_subscribed(Index) ->
    pubsub_requests:is_subscribed(Index).

%%% In the process of whoever asks mod_pubsub

%% As it was written; mod_pubsub gets it decoded.
-spec decode_iq_subel(#xmlel{}) -> #xmlel{}.
decode_iq_subel(El) ->
    El.

-spec process_pubsub(iq()) -> iq() | ignore.
process_pubsub(IQ) ->
    pubsub_requests:process_pubsub(IQ).

-spec process_pubsub_owner(iq()) -> iq().
process_pubsub_owner(IQ) ->
    pubsub_owners:process_pubsub_owner(IQ).

-spec process_disco_info(iq()) -> iq().
process_disco_info(IQ) ->
    pubsub_owners:process_disco_info(IQ).

-spec pubsub_delete_node(binary(), term(), binary(), mod_pubsub:nodeIdx()) -> ok.
pubsub_delete_node(_Host, Service, Node, Index) when is_binary(Service) ->
    pubsub_cluster:deleted({Service, Node, Index});
pubsub_delete_node(_Host, _Personal, _Node, _Index) ->
    ok.

-spec limits(gen_mod:opts()) -> pubsub_outlet:limits().
limits(Opts) ->
    #{messages => gen_mod:get_opt(max_queue, Opts), bytes => gen_mod:get_opt(max_queue_size, Opts)}.
