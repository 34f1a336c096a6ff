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
%%% presence_based_delivery, sessions of hosts with mod_stream_mgmt (which counts stanzas), and those
%%% that were there before the module.  Modules that look at what a session receives (hook
%%% user_receive_packet: privacy lists, archives) do not see the events.
%%%
%%% Who ends a subscription, or reads who subscribes, asks mod_pubsub, to which the subscription is
%%% lent for the time of the request.
%%%
%%% What it relies on, tried with ejabberd 23.01:
%%% - mod_pubsub serves a request in the process of whoever sent it, by the functions that stand in
%%%   the table of gen_iq_handler; its events go through ejabberd_router, in that process, too;
%%% - hooks c2s_session_opened, c2s_handle_info and user_receive_packet run in the session's process;
%%% - mod_pubsub keeps each subscription in the Mnesia table pubsub_state (db_type: mnesia).
-module(mod_pubsub_sessions).

-behaviour(gen_mod).
-behaviour(gen_server).

-export([start/2, stop/1, reload/3, depends/2, mod_opt_type/1, mod_options/1, mod_doc/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).
-export([c2s_session_opened/1, c2s_handle_info/2, user_receive_packet/1, c2s_terminated/2,
         pubsub_delete_node/4]).
-export([decode_iq_subel/1, process_pubsub/1, process_pubsub_owner/1, process_disco_info/1, route/1]).
-export([is_subscribed/1, event_here/3, subscribers_here/2, drop_here/3, deleted_here/2,
         end_sessions_here/2]).

-include_lib("kernel/include/logger.hrl").
-include_lib("ejabberd/include/pubsub.hrl").

-define(NS, <<"urn:django-pubsub:sessions:1">>).
-define(NS_CLIENT, <<"jabber:client">>).
-define(NS_PUBSUB, <<"http://jabber.org/protocol/pubsub">>).
-define(NS_PUBSUB_OWNER, <<"http://jabber.org/protocol/pubsub#owner">>).
-define(NS_PUBSUB_EVENT, <<"http://jabber.org/protocol/pubsub#event">>).
-define(NS_DISCO_INFO, <<"http://jabber.org/protocol/disco#info">>).
-define(NS_DELAY, <<"urn:xmpp:delay">>).

-define(LOOK, 200).                        % ms; after mod_pubsub, which may have been started again
-define(REPAIR, timer:seconds(10)).
-define(REMOTE_LIMIT, timer:seconds(5)).   % for another node of the cluster

%% As in fast_xml's fxml.hrl, whose application has another name in Debian.
-record(xmlel, {name = <<>> :: binary(),
                attrs = [] :: [{binary(), binary()}],
                children = [] :: list()}).

%% What the process of a session knows of itself, in its dictionary: under ?MODULE how it is written
%% to, and under {?MODULE, Service, Node} what it has subscribed to.
-record(session, {jid :: jid:ljid(),
                  target :: pubsub_outlet:target()}).
-record(served, {index :: mod_pubsub:nodeIdx(),
                 subid :: binary(),
                 fanout :: pid(),
                 monitor :: reference()}).

%% A node of mod_pubsub's.  (Its name may be another's before all has ended that it was.)
-type key() :: {Service :: binary(), Node :: binary(), mod_pubsub:nodeIdx()}.
-type iq() :: tuple().

%%% gen_mod

-spec start(binary(), gen_mod:opts()) -> {ok, pid()} | {error, term()}.
start(Host, Opts) ->
    gen_mod:start_child(?MODULE, Host, Opts).

-spec stop(binary()) -> ok | {error, term()}.
stop(Host) ->
    gen_mod:stop_child(?MODULE, Host).

-spec reload(binary(), gen_mod:opts(), gen_mod:opts()) -> ok.
reload(Host, NewOpts, _OldOpts) ->
    gen_server:cast(server(Host), {limit, limits(NewOpts)}).

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
                fanouts = #{} :: #{pid() => key()}}).

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
    ets:new(fanouts(Host), [named_table, protected, ordered_set, {read_concurrency, true}]),
    ets:new(subscriptions(Host), [named_table, public, ordered_set, {write_concurrency, true}]),
    Services = gen_mod:get_module_opt_hosts(Host, mod_pubsub),
    lists:foreach(
      fun(Service) ->
              forget_own(Service),
              ejabberd_router:register_route(address(Service), Host, {apply, ?MODULE, route})
      end, Services),
    ejabberd_hooks:add(pubsub_delete_node, Host, ?MODULE, pubsub_delete_node, 50),
    add_hooks(),
    wrap(Services),
    {ok, _} = timer:send_interval(?LOOK, look),
    {ok, _} = timer:send_interval(?REPAIR, repair),
    {ok, #state{host = Host, services = Services, limits = limits(Opts)}}.

handle_call({fanout, {Service, Node, Index} = Key}, _From, State) ->
    case is_alive(Service, Node, Index) andalso whereis_fanout(State#state.host, Key) of
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
    case whereis_fanout(State#state.host, Key) of
        {ok, Fanout} ->
            %% Who has subscribed to another one of the same name, which was made at once, comes again.
            case node(Service, Node) of
                {ok, Index, _, _} -> end_sessions_here(Service, Key);
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
    route(Packet),
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
    [ejabberd_router:unregister_route(address(Service)) || Service <- Services],
    element(1, init:get_status()) == stopping
        orelse [ejabberd_c2s:stop_async(Session)
               || {{_, _, Session}, _} <- ets:tab2list(subscriptions(Host))],
    maps:foreach(fun(Fanout, {Service, _, Index}) ->
                         unlink(Fanout),
                         exit(Fanout, shutdown),
                         forget_state(own(Service), Index)
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
    [Host || Host <- ejabberd_option:hosts(), ets:whereis(fanouts(Host)) /= undefined].

%% A node that was deleted where this one could not be told; and what is the module's own as a
%% subscriber, whoever has taken it away.
-spec repair(#state{}) -> #state{}.
repair(#state{fanouts = Fanouts} = State) ->
    maps:fold(fun(Fanout, {Service, Node, Index} = Key, Acc) ->
                      case is_alive(Service, Node, Index) of
                          true ->
                              mnesia:dirty_read(pubsub_state, {own(Service), Index}) == []
                                  andalso write_state(own(Service), Index, <<"sessions">>),
                              Acc;
                          false ->
                              end_sessions_here(Service, Key),
                              try pubsub_fanout:stop(Fanout) catch exit:_ -> ok end,
                              removed(Fanout, Acc)
                      end
              end, State, Fanouts).

start_fanout({Service, _, Index} = Key, #state{host = Host, fanouts = Fanouts} = State) ->
    {ok, Fanout} = pubsub_fanout:start_link(#{key => Key, owner => self(),
                                              table => subscriptions(Host),
                                              limits => State#state.limits}),
    ets:insert(fanouts(Host), {Key, Fanout}),
    write_state(own(Service), Index, <<"sessions">>),
    {reply, {ok, Fanout}, State#state{fanouts = Fanouts#{Fanout => Key}}}.

ended(Fanout, #state{fanouts = Fanouts} = State) ->
    case Fanouts of
        #{Fanout := {Service, Node, Index}} ->
            is_alive(Service, Node, Index) andalso forget_state(own(Service), Index);
        _ ->
            ok
    end,
    removed(Fanout, State).

%% With its node, of which mod_pubsub knows nothing any more: its number may be another's already.
removed(Fanout, #state{host = Host, fanouts = Fanouts} = State) ->
    case maps:take(Fanout, Fanouts) of
        {Key, Others} ->
            ets:delete(fanouts(Host), Key),
            ets:match_delete(subscriptions(Host), {{Key, '_', '_'}, '_'}),
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
        false -> put(?MODULE, #session{jid = jid:tolower(JID), target = pubsub_outlet:of_stream(State)})
    end,
    State.

-spec c2s_handle_info(ejabberd_c2s:state(), term()) ->
          ejabberd_c2s:state() | {stop, ejabberd_c2s:state()}.
c2s_handle_info(#{socket := Socket} = State, {pubsub_outlet, send, Event}) ->
    ok == xmpp_socket:send(Socket, Event) orelse (self() ! {'$gen_event', closed}),
    {stop, State};
c2s_handle_info(State, {?MODULE, release, Fanout}) ->
    pubsub_fanout:release(Fanout),
    {stop, State};
c2s_handle_info(State, {pubsub_fanout, ended, {Service, Node, _}, Fanout}) ->
    forget(Service, Node, Fanout),
    {stop, State};
c2s_handle_info(#{lang := Lang} = State, {'DOWN', Monitor, process, _, _}) ->
    case [Key || {{?MODULE, _, _} = Key, #served{monitor = M}} <- get(), M == Monitor] of
        [] ->
            State;
        Keys ->
            lists:foreach(fun erase/1, Keys),
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
    case service_of(xmpp:get_from(Packet)) of
        none ->
            {Packet, State};
        Service ->
            case event_of(elements(Packet)) of
                {ok, Node} ->
                    case get({?MODULE, Service, Node}) of
                        undefined -> {Packet, State};
                        #served{} -> {stop, {drop, State}}
                    end;
                none ->
                    {Packet, State}
            end
    end;
user_receive_packet(Acc) ->
    Acc.

%% A service of which this session has had a subscription.
-spec service_of(jid:jid() | undefined) -> binary() | none.
service_of(undefined) ->
    none;
service_of(JID) ->
    case jid:tolower(JID) of
        {<<>>, Service, <<>>} ->
            case get({?MODULE, Service}) of
                undefined -> none;
                known -> Service
            end;
        _ ->
            none
    end.

%% Before the session is waited for, which may take a while.
-spec c2s_terminated(ejabberd_c2s:state(), term()) -> ejabberd_c2s:state().
c2s_terminated(State, _Reason) ->
    [try pubsub_fanout:leave(Fanout) catch exit:_ -> ok end
     || {{?MODULE, _, _}, #served{fanout = Fanout}} <- get()],
    State.

%% The node of an event.  Of the last item, which has been asked for, there is none.
-spec event_of([#xmlel{}]) -> {ok, Node :: binary()} | none.
event_of(Elements) ->
    case {child(<<"event">>, ?NS_PUBSUB_EVENT, Elements), child(<<"delay">>, ?NS_DELAY, Elements)} of
        {#xmlel{children = [#xmlel{name = Name} = What]}, false} when Name /= <<"subscription">> ->
            {ok, fxml:get_tag_attr_s(<<"node">>, What)};
        _ ->
            none
    end.

%% Whether the session in whose process this is called has a subscription of its own.
-spec is_subscribed(mod_pubsub:nodeIdx()) -> boolean().
is_subscribed(Index) ->
    [] /= [found || {{?MODULE, _, _}, #served{index = Each}} <- get(), Each == Index].

-spec forget(binary(), binary(), pid()) -> ok.
forget(Service, Node, Fanout) ->
    case get({?MODULE, Service, Node}) of
        #served{fanout = Fanout, monitor = Monitor} ->
            demonitor(Monitor, [flush]),
            erase({?MODULE, Service, Node});
        _ ->
            ok
    end,
    ok.

%%% What is asked of mod_pubsub

%% As it was written; mod_pubsub gets it decoded.
-spec decode_iq_subel(#xmlel{}) -> #xmlel{}.
decode_iq_subel(El) ->
    El.

-spec process_pubsub(iq()) -> iq() | ignore.
process_pubsub(IQ) ->
    case {session_of(IQ), xmpp:get_els(IQ)} of
        {none, [El]} ->
            ask(process_pubsub, IQ, xmpp:decode(El));
        {Session, [El]} ->
            Request = xmpp:decode(El),
            case request(El, Request) of
                {<<"subscribe">>, Node, Child} -> subscribe(IQ, Request, Node, subscriber(Child), Session);
                {<<"unsubscribe">>, Node, Child} ->
                    unsubscribe(IQ, Request, Node, subscriber(Child), Session);
                {<<"items">>, Node, _} -> items(IQ, Request, Node, Session);
                {<<"publish">>, Node, _} -> publish(IQ, Request, Node, Session);
                {<<"subscriptions">>, Node, _} -> subscriptions(IQ, Request, Node, Session);
                _ -> ask(process_pubsub, IQ, Request)
            end
    end.

%% The session that has sent a request, if it is one, and we are in its process.
-spec session_of(iq()) -> #session{} | none.
session_of(IQ) ->
    case get(?MODULE) of
        #session{jid = JID} = Session ->
            case jid:tolower(xmpp:get_from(IQ)) of
                JID -> Session;
                _ -> none
            end;
        undefined ->
            none
    end.

%% What mod_pubsub will read, not what was written: prefixes, or attributes that stand there twice.
%% Only a payload, which is big, is not written again.
-spec request(#xmlel{}, tuple()) -> {Name :: binary(), Node :: binary(), #xmlel{}} | none.
request(#xmlel{children = Children}, Request) ->
    case [El || #xmlel{} = El <- Children] of
        [#xmlel{name = <<"publish">>} = Publish | _] ->
            {<<"publish">>, fxml:get_tag_attr_s(<<"node">>, Publish), Publish};
        _ ->
            #xmlel{children = Read} = xmpp:encode(Request),
            case [El || #xmlel{name = Name} = El <- Read, Name /= <<"options">>, Name /= <<"set">>] of
                [#xmlel{name = Name} = El] -> {Name, fxml:get_tag_attr_s(<<"node">>, El), El};
                _ -> none
            end
    end.

-spec subscriber(#xmlel{}) -> jid:ljid().
subscriber(El) ->
    jid:tolower(jid:decode(fxml:get_tag_attr_s(<<"jid">>, El))).

-spec ask(process_pubsub | process_pubsub_owner | process_disco_info, iq(), tuple()) -> iq().
ask(Function, IQ, Request) ->
    mod_pubsub:Function(xmpp:set_els(IQ, [Request])).

%% The session joins first, so whoever takes the subscription away finds it here or there.
subscribe(IQ, Request, Node, JID, #session{jid = JID, target = Target}) ->
    Service = service(IQ),
    Ask = fun() -> ask(process_pubsub, IQ, Request) end,
    case node(Service, Node) of
        {ok, Index, _Type, Options} ->
            case {get({?MODULE, Service, Node}), is_for_all(Options)} of
                {#served{index = Index} = Served, _} ->
                    %% Once more: to hear the last item, perhaps.
                    answer(Served, fun() -> lend(JID, Served, Ask) end, Ask);
                {_, true} ->
                    case join({Service, Node, Index}, JID, Target) of
                        {ok, Fanout} -> subscribe(IQ, Ask, Node, Index, JID, Fanout);
                        gone -> Ask()
                    end;
                {_, false} ->
                    Ask()
            end;
        none ->
            Ask()
    end;
subscribe(IQ, Request, _Node, _JID, _Session) ->
    ask(process_pubsub, IQ, Request).

%% Whether events go to each subscriber, whatever else is known of him.
-spec is_for_all(list()) -> boolean().
is_for_all(Options) ->
    not proplists:get_value(presence_based_delivery, Options, false)
        andalso not proplists:get_value(broadcast_all_resources, Options, false).

subscribe(IQ, Ask, Node, Index, JID, Fanout) ->
    try confirmed(Ask(), Index, JID, Fanout) of
        {ok, SubId, Answer} ->
            Service = service(IQ),
            forget(Service, Node, any_other(Service, Node)),
            put({?MODULE, Service}, known),
            put({?MODULE, Service, Node},
                #served{index = Index, subid = SubId, fanout = Fanout,
                        monitor = monitor(process, Fanout)}),
            written(Answer, Fanout);
        gone ->
            %% It was subscribed, and has been put out already.
            xmpp:make_error(IQ, xmpp:err_not_allowed());
        {no, Answer} ->
            pubsub_fanout:leave(Fanout),
            Answer
    catch
        Class:Reason:Trace ->
            try pubsub_fanout:leave(Fanout) catch exit:_ -> ok end,
            erlang:raise(Class, Reason, Trace)
    end.

-spec confirmed(iq(), mod_pubsub:nodeIdx(), jid:ljid(), pid()) ->
          {ok, SubId :: binary(), iq()} | gone | {no, iq()}.
confirmed(Answer, Index, JID, Fanout) ->
    case taken_over(Answer, Index, JID) of
        {ok, SubId} ->
            case pubsub_fanout:confirm(Fanout, SubId) of
                ok -> {ok, SubId, Answer};
                gone -> gone
            end;
        no ->
            {no, Answer}
    end.

%% A node of the same name that was deleted, of which the session has not been told yet.
any_other(Service, Node) ->
    case get({?MODULE, Service, Node}) of
        #served{fanout = Fanout} -> Fanout;
        undefined -> none
    end.

%% gone: the node is not there any more.
-spec join(key(), jid:ljid(), pubsub_outlet:target()) -> {ok, pid()} | gone.
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
            ok = pubsub_fanout:join(Fanout, JID, Target),
            {ok, Fanout};
        gone ->
            gone
    end.

%% no: mod_pubsub has not subscribed it, or it is to wait, or has been taken away already.
-spec taken_over(iq(), mod_pubsub:nodeIdx(), jid:ljid()) -> {ok, SubId :: binary()} | no.
taken_over(Answer, Index, JID) ->
    case {xmpp:get_type(Answer), mnesia:dirty_read(pubsub_state, {JID, Index})} of
        {result, [#pubsub_state{subscriptions = [{subscribed, SubId}]}]} ->
            forget_state(JID, Index),
            {ok, SubId};
        _ ->
            no
    end.

unsubscribe(IQ, Request, Node, JID, #session{jid = JID}) ->
    Service = service(IQ),
    Ask = fun() -> ask(process_pubsub, IQ, Request) end,
    case served(Service, Node) of
        {ok, #served{fanout = Fanout} = Served, _} ->
            Unsubscribe = fun() ->
                                  Answer = lend(JID, Served, Ask),
                                  xmpp:get_type(Answer) == result
                                      andalso begin
                                                  pubsub_fanout:leave(Fanout),
                                                  forget(Service, Node, Fanout)
                                              end,
                                  Answer
                          end,
            answer(Served, Unsubscribe, Ask);
        none ->
            Ask()
    end;
unsubscribe(IQ, Request, _Node, _JID, _Session) ->
    ask(process_pubsub, IQ, Request).

%% Subscribers may read where others may not, even when the node was closed after they came.
items(IQ, Request, Node, #session{jid = JID}) ->
    Ask = fun() -> ask(process_pubsub, IQ, Request) end,
    case served(service(IQ), Node) of
        {ok, Served, Options} ->
            case proplists:get_value(access_model, Options) of
                open -> answer(Served, Ask, Ask);
                _ -> answer(Served, fun() -> lend(JID, Served, Ask) end, Ask)
            end;
        none ->
            Ask()
    end.

%% To some nodes subscribers publish.
publish(IQ, Request, Node, #session{jid = JID}) ->
    Ask = fun() -> ask(process_pubsub, IQ, Request) end,
    case served(service(IQ), Node) of
        {ok, Served, Options} ->
            case proplists:get_value(publish_model, Options) of
                subscribers -> answer(Served, fun() -> lend(JID, Served, Ask) end, Ask);
                _ -> Ask()
            end;
        none ->
            Ask()
    end.

%% What the session has subscribed to, if it is the node that there is now.
-spec served(binary(), binary()) -> {ok, #served{}, Options :: list()} | none.
served(Service, Node) ->
    case get({?MODULE, Service, Node}) of
        #served{index = Index} = Served ->
            case node(Service, Node) of
                {ok, Index, _, Options} -> {ok, Served, Options};
                _ -> none
            end;
        undefined ->
            none
    end.

%% The session holds its events until it has written the answer.  If it is no member any more, or is
%% about to hear that all has ended, it is a stranger.
-spec answer(#served{}, fun(() -> iq()), fun(() -> iq())) -> iq() | ignore.
answer(#served{fanout = Fanout}, AskAsMember, Ask) ->
    try pubsub_fanout:hold(Fanout) of
        ok ->
            Answer = try AskAsMember()
                     catch Class:Reason:Trace ->
                             pubsub_fanout:known(Fanout),
                             pubsub_fanout:release(Fanout),
                             erlang:raise(Class, Reason, Trace)
                     end,
            pubsub_fanout:known(Fanout),
            written(Answer, Fanout);
        gone ->
            Ask()
    catch
        exit:{_, {gen_server, call, _}} -> Ask()
    end.

%% What is sent to oneself is written in the order in which it was sent.
-spec written(iq(), pid()) -> ignore.
written(Answer, Fanout) ->
    ejabberd_router:route(Answer),
    self() ! {?MODULE, release, Fanout},
    ignore.

%% Those of this session, and those that mod_pubsub has of the user.
subscriptions(IQ, Request, Node, #session{jid = JID}) ->
    Answer = ask(process_pubsub, IQ, Request),
    Service = service(IQ),
    add_children(Answer, <<"subscriptions">>,
                 [subscription(JID, SubId, [{<<"node">>, Each} || Node == <<>>])
                  || {{?MODULE, Of, Each}, #served{subid = SubId}} <- get(), Of == Service,
                     Node == <<>> orelse Node == Each]).

%%% What the owner asks of mod_pubsub

-spec process_pubsub_owner(iq()) -> iq().
process_pubsub_owner(IQ) ->
    [El] = xmpp:get_els(IQ),
    Request = xmpp:decode(El),
    Ask = fun() -> ask(process_pubsub_owner, IQ, Request) end,
    case {xmpp:get_type(IQ), xmpp:encode(Request)} of
        {Type, #xmlel{children = [#xmlel{name = Name, children = Children} = Child]}} ->
            Service = service(IQ),
            Node = fxml:get_tag_attr_s(<<"node">>, Child),
            Wanted = fun() -> [{subscriber(Each), fxml:get_tag_attr_s(Name1, Each)}
                               || #xmlel{} = Each <- Children, Name1 <- [state_name(Name)]] end,
            case {Type, Name, node(Service, Node)} of
                {get, <<"subscriptions">>, {ok, Index, _, _}} ->
                    list_subscriptions(Ask(), {Service, Node, Index});
                {set, <<"subscriptions">>, {ok, Index, NodeType, _}} ->
                    Owner = is_owner(Service, NodeType, Index, IQ),
                    set_subscriptions(IQ, Ask, {Service, Node, Index}, Owner, Wanted());
                {set, <<"affiliations">>, {ok, Index, NodeType, _}} ->
                    set_affiliations(IQ, Ask(), {Service, Node, Index}, NodeType, Wanted());
                {set, <<"configure">>, {ok, Index, _, _}} ->
                    configure(Ask(), {Service, Node, Index});
                _ ->
                    Ask()
            end;
        _ ->
            Ask()
    end.

state_name(<<"subscriptions">>) -> <<"subscription">>;
state_name(<<"affiliations">>) -> <<"affiliation">>;
state_name(_) -> <<>>.

is_owner(Service, Type, Index, IQ) ->
    {result, owner} == mod_pubsub:node_action(Service, Type, get_affiliation,
                                              [Index, jid:remove_resource(xmpp:get_from(IQ))]).

list_subscriptions(Answer, {Service, _, _} = Key) ->
    Known = [jid:encode(Each) || Each <- all_own(Service)],
    Own = fun(#xmlel{} = El) -> lists:member(fxml:get_tag_attr_s(<<"jid">>, El), Known);
             (_) -> false
          end,
    add_children(without_children(Answer, <<"subscriptions">>, Own), <<"subscriptions">>,
                 [subscription(JID, SubId, []) || {JID, SubId} <- subscribers(Key)]).

%% Whom mod_pubsub has not subscribed any more, or otherwise, is not served any more.
set_subscriptions(_IQ, Ask, _Key, false, _Wanted) ->
    Ask();
set_subscriptions(IQ, Ask, {_, _, Index} = Key, true, Wanted) ->
    JIDs = [JID || {JID, _} <- Wanted],
    Lent = [{JID, SubId} || {JID, SubId} <- subscribers(Key), lists:member(JID, JIDs)],
    lists:foreach(fun({JID, SubId}) -> write_state(JID, Index, SubId) end, Lent),
    Answer = try Ask()
             after lists:foreach(fun({JID, _}) -> taken_back(JID, Index) end, Lent)
             end,
    case xmpp:get_type(Answer) of
        result -> dropped(IQ, Answer, Key, [JID || {JID, State} <- Wanted, State /= <<"subscribed">>],
                          fun(_) -> ok end);
        error -> Answer
    end.

%% mod_pubsub lets those stay subscribed whom it would not let in any more.
set_affiliations(IQ, Answer, {Service, Node, Index} = Key, Type, Wanted) ->
    case xmpp:get_type(Answer) of
        result ->
            Bare = lists:usort([jid:remove_resource(JID) || {JID, _} <- Wanted]),
            Out = [JID || JID <- Bare, is_shut_out(Service, Node, Type, Index, JID)],
            dropped(IQ, Answer, Key, Out,
                    fun(JID) -> tell_unsubscribed(Service, Node, JID) end);
        error ->
            Answer
    end.

%% The owner is told if some could not be reached, and may ask again.
dropped(IQ, Answer, Key, JIDs, Tell) ->
    {Dropped, IsAll} = drop(Key, JIDs),
    lists:foreach(Tell, Dropped),
    case IsAll of
        true -> Answer;
        false ->
            Text = <<"A server of the cluster has not answered: its sessions may hear events on">>,
            xmpp:make_error(IQ, xmpp:err_remote_server_timeout(Text, xmpp:get_lang(IQ)))
    end.

is_shut_out(Service, Node, Type, Index, JID) ->
    {ok, _, _, Options} = node(Service, Node),
    case node_action(Service, Type, get_affiliation, [Index, jid:make(JID)]) of
        {result, Affiliation} when Affiliation == outcast; Affiliation == publish_only -> true;
        {result, none} -> proplists:get_value(access_model, Options) == whitelist;
        _ -> false
    end.

-spec tell_unsubscribed(binary(), binary(), jid:ljid()) -> ok.
tell_unsubscribed(Service, Node, JID) ->
    Subscription = #xmlel{name = <<"subscription">>,
                          attrs = [{<<"jid">>, jid:encode(JID)}, {<<"node">>, Node},
                                   {<<"subscription">>, <<"none">>}]},
    Event = #xmlel{name = <<"event">>, attrs = [{<<"xmlns">>, ?NS_PUBSUB_EVENT}],
                   children = [Subscription]},
    Message = xmpp:decode(#xmlel{name = <<"message">>, children = [Event]}, ?NS_CLIENT, []),
    ejabberd_router:route(xmpp:set_from_to(Message, jid:make(Service), jid:make(JID))).

%% What only those get who have presence is mod_pubsub's: who is here comes again.
configure(Answer, {Service, Node, _} = Key) ->
    case node(Service, Node) of
        {ok, _, _, Options} ->
            is_for_all(Options) orelse everywhere(end_sessions_here, [Service, Key]);
        none ->
            ok
    end,
    Answer.

%% XEP-0060 5.4: how many subscribers a node has, in its meta-data.
-spec process_disco_info(iq()) -> iq().
process_disco_info(IQ) ->
    [El] = xmpp:get_els(IQ),
    Request = xmpp:decode(El),
    Answer = ask(process_disco_info, IQ, Request),
    Service = service(IQ),
    Node = fxml:get_tag_attr_s(<<"node">>, xmpp:encode(Request)),
    case {xmpp:get_type(Answer), node(Service, Node)} of
        {result, {ok, Index, Type, _}} ->
            {result, States} = node_action(Service, Type, get_node_subscriptions, [Index]),
            Others = [JID || {JID, subscribed, _} <- States] -- all_own(Service),
            count_subscribers(Answer, length(Others) + length(subscribers({Service, Node, Index})));
        _ ->
            Answer
    end.

count_subscribers(Answer, Count) ->
    [El] = elements(Answer),
    xmpp:set_els(Answer, [counted(El, integer_to_binary(Count))]).

counted(#xmlel{name = <<"field">>} = El, Count) ->
    case fxml:get_tag_attr_s(<<"var">>, El) of
        <<"pubsub#num_subscribers">> ->
            El#xmlel{children = [#xmlel{name = <<"value">>, children = [{xmlcdata, Count}]}]};
        _ ->
            El
    end;
counted(#xmlel{children = Children} = El, Count) ->
    El#xmlel{children = [counted(Child, Count) || Child <- Children]};
counted(Text, _Count) ->
    Text.

-spec pubsub_delete_node(binary(), term(), binary(), mod_pubsub:nodeIdx()) -> ok.
pubsub_delete_node(_Host, Service, Node, Index) when is_binary(Service) ->
    everywhere(deleted_here, [Service, {Service, Node, Index}]),
    ok;
pubsub_delete_node(_Host, _Personal, _Node, _Index) ->
    ok.

-spec deleted_here(binary(), key()) -> ok.
deleted_here(Service, Key) ->
    gen_server:call(server(ejabberd_router:host_of_route(Service)), {deleted, Key}, infinity).

%%% What comes to the module's own address: events, from the process that publishes

-spec route(tuple()) -> ok.
route(Packet) ->
    From = jid:tolower(xmpp:get_from(Packet)),
    {_, Address, Resource} = jid:tolower(xmpp:get_to(Packet)),
    <<"sessions.", Service/binary>> = Address,
    case {xmpp:get_name(Packet), From} of
        {<<"message">>, {<<>>, Service, <<>>}} -> event(Service, Resource, Packet);
        {<<"iq">>, _} -> status(Service, Packet);
        _ -> ok
    end.

event(Service, Erlang, Packet) ->
    #xmlel{attrs = Attrs, children = Children} = El
        = xmpp:encode(xmpp:set_to(Packet, undefined), ?NS_CLIENT),
    case event_of([Child || #xmlel{} = Child <- Children]) of
        {ok, Node} ->
            Namespaced = El#xmlel{attrs = lists:keystore(<<"xmlns">>, 1, Attrs, {<<"xmlns">>, ?NS_CLIENT})},
            Event = fxml:element_to_binary(Namespaced),
            %% A node that is not there has no sessions.
            [on(Each, event_here, [Service, Node, Event])
             || Each <- ejabberd_cluster:get_nodes(), atom_to_binary(Each) == Erlang],
            ok;
        none ->
            ok
    end.

-spec event_here(binary(), binary(), binary()) -> ok.
event_here(Service, Node, Event) ->
    Host = ejabberd_router:host_of_route(Service),
    case ets:select(fanouts(Host), [{{{Service, Node, '_'}, '$1'}, [], ['$1']}]) of
        [Fanout] -> event_to(Fanout, Event);
        [] -> ok;
        Several -> lists:foreach(fun(Fanout) -> event_to(Fanout, Event) end, Several)
    end.

event_to(Fanout, Event) ->
    try pubsub_fanout:event(Fanout, Event)
    catch exit:_ -> ok  % it has ended, or its sessions are about to hear that it has failed
    end.

status(Service, IQ) ->
    Host = ejabberd_router:host_of_route(Service),
    Access = gen_mod:get_module_opt(Host, ?MODULE, access),
    Answer = case {xmpp:get_type(IQ), acl:match_rule(Host, Access, xmpp:get_from(IQ)), elements(IQ)} of
                 {get, allow, [#xmlel{name = <<"status">>}]} ->
                     Count = fun(Table) -> integer_to_binary(ets:info(Table, size)) end,
                     xmpp:make_iq_result(IQ, #xmlel{name = <<"status">>,
                                                    attrs = [{<<"xmlns">>, ?NS}, {<<"version">>, <<"1">>},
                                                             {<<"nodes">>, Count(fanouts(Host))},
                                                             {<<"subscriptions">>, Count(subscriptions(Host))}]});
                 {Type, _, _} when Type == result; Type == error ->
                     none;
                 {_, allow, _} ->
                     xmpp:make_error(IQ, xmpp:err_bad_request());
                 _ ->
                     xmpp:make_error(IQ, xmpp:err_forbidden())
             end,
    Answer == none orelse ejabberd_router:route(Answer),
    ok.

%%% The cluster: each node serves the sessions that are connected to it

%% An event crosses to a node once, and is there when this returns.
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

-spec subscribers(key()) -> [{jid:ljid(), SubId :: binary()}].
subscribers({Service, _, _} = Key) ->
    lists:usort(lists:append([Found || {ok, Found} <- everywhere(subscribers_here, [Service, Key])])).

%% Those that have been confirmed.
-spec subscribers_here(binary(), key()) -> [{jid:ljid(), binary()}].
subscribers_here(Service, Key) ->
    with_fanout(Service, Key, fun pubsub_fanout:members/1).

%% Those that were there; and whether all servers have been reached.
-spec drop(key(), [jid:ljid()]) -> {[jid:ljid()], boolean()}.
drop(_Key, []) ->
    {[], true};
drop({Service, _, _} = Key, JIDs) ->
    Answers = everywhere(drop_here, [Service, Key, JIDs]),
    {lists:append([Dropped || {ok, Dropped} <- Answers]), not lists:member(error, Answers)}.

-spec drop_here(binary(), key(), [jid:ljid()]) -> [jid:ljid()].
drop_here(Service, Key, JIDs) ->
    with_fanout(Service, Key, fun(Fanout) -> pubsub_fanout:drop(Fanout, JIDs) end).

-spec with_fanout(binary(), key(), fun((pid()) -> list())) -> list().
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
-spec end_sessions_here(binary(), key()) -> ok.
end_sessions_here(Service, Key) ->
    Table = subscriptions(ejabberd_router:host_of_route(Service)),
    lists:foreach(fun ejabberd_c2s:stop_async/1,
                  ets:select(Table, [{{{Key, '_', '$1'}, '_'}, [], ['$1']}])).

%%% Subscriptions as mod_pubsub has them

%% What a request does while mod_pubsub has the subscription.
-spec lend(jid:ljid(), #served{}, fun(() -> iq())) -> iq().
lend(JID, #served{index = Index, subid = SubId}, Ask) ->
    write_state(JID, Index, SubId),
    try Ask()
    after taken_back(JID, Index)
    end.

%% Unless it is something else now, to be decided by the owner, say.
-spec taken_back(jid:ljid(), mod_pubsub:nodeIdx()) -> ok.
taken_back(JID, Index) ->
    case mnesia:dirty_read(pubsub_state, {JID, Index}) of
        [#pubsub_state{subscriptions = [{subscribed, _}]}] -> forget_state(JID, Index);
        _ -> ok
    end.

%% On all nodes of the cluster before it returns, as mod_pubsub does it.
-spec write_state(jid:ljid(), mod_pubsub:nodeIdx(), SubId :: binary()) -> ok.
write_state(JID, Index, SubId) ->
    mnesia:sync_dirty(fun mnesia:write/1,
                      [#pubsub_state{stateid = {JID, Index}, nodeidx = Index,
                                     subscriptions = [{subscribed, SubId}]}]).

-spec forget_state(jid:ljid(), mod_pubsub:nodeIdx()) -> ok.
forget_state(JID, Index) ->
    mnesia:sync_dirty(fun mnesia:delete/1, [{pubsub_state, {JID, Index}}]).

%% What is left of the module's own subscriptions from a time before this one.
-spec forget_own(binary()) -> ok.
forget_own(Service) ->
    Own = own(Service),
    Pattern = #pubsub_state{stateid = {Own, '$1'}, nodeidx = '_', items = '_', affiliation = '_',
                            subscriptions = '_'},
    lists:foreach(fun(Index) -> forget_state(Own, Index) end,
                  mnesia:dirty_select(pubsub_state, [{Pattern, [], ['$1']}])).

node_action(Service, Type, Function, Args) ->
    mod_pubsub:node_action(Service, Type, Function, Args).

-spec node(binary(), binary()) -> {ok, mod_pubsub:nodeIdx(), Type :: binary(), list()} | none.
node(Service, Node) ->
    case mod_pubsub:tree_action(Service, get_node, [Service, Node]) of
        #pubsub_node{id = Index, type = Type, options = Options} -> {ok, Index, Type, Options};
        {error, _} -> none
    end.

-spec is_alive(binary(), binary(), mod_pubsub:nodeIdx()) -> boolean().
is_alive(Service, Node, Index) ->
    case node(Service, Node) of
        {ok, Index, _, _} -> true;
        _ -> false
    end.

%%% Small things

-spec server(binary()) -> atom().
server(Host) ->
    gen_mod:get_module_proc(Host, ?MODULE).

-spec fanouts(binary()) -> atom().
fanouts(Host) ->
    gen_mod:get_module_proc(Host, mod_pubsub_sessions_fanouts).

-spec subscriptions(binary()) -> atom().
subscriptions(Host) ->
    gen_mod:get_module_proc(Host, mod_pubsub_sessions_subscriptions).

-spec whereis_fanout(binary(), key()) -> {ok, pid()} | none.
whereis_fanout(Host, Key) ->
    case ets:lookup(fanouts(Host), Key) of
        [{_, Fanout}] -> {ok, Fanout};
        [] -> none
    end.

-spec limits(gen_mod:opts()) -> pubsub_outlet:limits().
limits(Opts) ->
    #{messages => gen_mod:get_opt(max_queue, Opts), bytes => gen_mod:get_opt(max_queue_size, Opts)}.

-spec address(binary()) -> binary().
address(Service) ->
    <<"sessions.", Service/binary>>.

-spec own(binary()) -> jid:ljid().
own(Service) ->
    own(node(), Service).

-spec own(node(), binary()) -> jid:ljid().
own(Node, Service) ->
    {<<>>, address(Service), atom_to_binary(Node)}.

%% Of the whole cluster, whoever is there.
-spec all_own(binary()) -> [jid:ljid()].
all_own(Service) ->
    [own(Node, Service) || Node <- ejabberd_cluster:get_known_nodes()].

-spec service(iq()) -> binary().
service(IQ) ->
    {_, Service, _} = jid:tolower(xmpp:get_to(IQ)),
    Service.

-spec elements(tuple()) -> [#xmlel{}].
elements(Packet) ->
    [El || #xmlel{} = El <- [xmpp:encode(Each) || Each <- xmpp:get_els(Packet)]].

-spec child(binary(), binary(), [#xmlel{}]) -> #xmlel{} | false.
child(Name, Namespace, Elements) ->
    case [El || #xmlel{name = Each} = El <- Elements, Each == Name,
                fxml:get_tag_attr_s(<<"xmlns">>, El) == Namespace] of
        [El | _] -> El;
        [] -> false
    end.

-spec subscription(jid:ljid(), binary(), [{binary(), binary()}]) -> #xmlel{}.
subscription(JID, SubId, Attrs) ->
    #xmlel{name = <<"subscription">>,
           attrs = [{<<"jid">>, jid:encode(JID)}, {<<"subscription">>, <<"subscribed">>},
                    {<<"subid">>, SubId} | Attrs]}.

-spec add_children(iq(), binary(), [#xmlel{}]) -> iq().
add_children(Answer, Name, More) ->
    change_children(Answer, Name, fun(Children) -> Children ++ More end).

-spec without_children(iq(), binary(), fun((term()) -> boolean())) -> iq().
without_children(Answer, Name, Unwanted) ->
    change_children(Answer, Name,
                    fun(Children) -> [Child || Child <- Children, not Unwanted(Child)] end).

change_children(Answer, Name, Change) ->
    case {xmpp:get_type(Answer), elements(Answer)} of
        {result, [#xmlel{children = Children} = El]} ->
            Changed = [case Child of
                           #xmlel{name = Name, children = Inner} -> Child#xmlel{children = Change(Inner)};
                           _ -> Child
                       end || Child <- Children],
            xmpp:set_els(Answer, [El#xmlel{children = Changed}]);
        _ ->
            Answer
    end.
