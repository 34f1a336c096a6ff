%%% What a session asks of mod_pubsub, and what it has subscribed to.
%%%
%%% All of this runs in the process of the session, and stands in its dictionary, which nobody else
%%% reads or writes.  mod_pubsub decides on each request.  Where it has to know of the session's
%%% subscription for that it is lent to it, and while it answers, the session holds its events
%%% (pubsub_fanout).
%%%
%%% It must not know what owners ask (pubsub_owners), nor how the hooks come by what they call: it
%%% stands below mod_pubsub_sessions, and above pubsub_cluster, pubsub_rows and pubsub_stanzas.
-module(pubsub_requests).

-export([begin_session/2, leave_all/0, has_lost/1, forget/3, is_served/2, is_subscribed/1,
         service_of/1]).
-export([process_pubsub/1]).

%% As in fast_xml's fxml.hrl, whose application has another name in Debian.
-record(xmlel, {name = <<>> :: binary(),
                attrs = [] :: [{binary(), binary()}],
                children = [] :: list()}).

%% What the process of a session knows of itself, in its dictionary: under ?MODULE how it is written
%% to, under {?MODULE, Service, Node} what it has subscribed to, and under {?MODULE, Service} that it
%% has ever subscribed to something there.
-record(session, {jid :: jid:ljid(),
                  target :: pubsub_outlet:target()}).
-record(served, {index :: mod_pubsub:nodeIdx(),
                 subid :: binary(),
                 fanout :: pid(),
                 monitor :: reference()}).

-type iq() :: tuple().

%%% What the session has

%% From now on its requests are served here.
-spec begin_session(jid:ljid(), pubsub_outlet:target()) -> ok.
begin_session(JID, Target) ->
    put(?MODULE, #session{jid = JID, target = Target}),
    ok.

%% Before it is waited for, which may take a while.
-spec leave_all() -> ok.
leave_all() ->
    [try pubsub_fanout:leave(Fanout) catch exit:_ -> ok end
     || {{?MODULE, _, _}, #served{fanout = Fanout}} <- get()],
    ok.

%% Whether it has lost subscriptions by the end of a fan-out.
-spec has_lost(Monitor :: reference()) -> boolean().
has_lost(Monitor) ->
    case [Key || {{?MODULE, _, _} = Key, #served{monitor = M}} <- get(), M == Monitor] of
        [] ->
            false;
        Keys ->
            lists:foreach(fun erase/1, Keys),
            true
    end.

-spec is_served(binary(), binary()) -> boolean().
is_served(Service, Node) ->
    get({?MODULE, Service, Node}) /= undefined.

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

%% Whether the session in whose process this is called has a subscription of its own.
-spec is_subscribed(mod_pubsub:nodeIdx()) -> boolean().
is_subscribed(Index) ->
    [] /= [found || {{?MODULE, _, _}, #served{index = Each}} <- get(), Each == Index].

%%% What it asks

-spec process_pubsub(iq()) -> iq() | ignore.
process_pubsub(IQ) ->
    case {session_of(IQ), xmpp:get_els(IQ)} of
        {none, [El]} ->
            ask(IQ, xmpp:decode(El));
        {Session, [El]} ->
            Request = xmpp:decode(El),
            case request(El, Request) of
                {<<"subscribe">>, Node, Child} ->
                    subscribe(IQ, Request, Node, pubsub_stanzas:subscriber(Child), Session);
                {<<"unsubscribe">>, Node, Child} ->
                    unsubscribe(IQ, Request, Node, pubsub_stanzas:subscriber(Child), Session);
                {<<"items">>, Node, _} -> items(IQ, Request, Node, Session);
                {<<"publish">>, Node, _} -> publish(IQ, Request, Node, Session);
                {<<"subscriptions">>, Node, _} -> subscriptions(IQ, Request, Node, Session);
                _ -> ask(IQ, Request)
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

ask(IQ, Request) ->
    pubsub_rows:ask(process_pubsub, IQ, Request).

%% The session joins first, so whoever takes the subscription away finds it here or there.
subscribe(IQ, Request, Node, JID, #session{jid = JID, target = Target}) ->
    Service = pubsub_stanzas:service(IQ),
    Ask = fun() -> ask(IQ, Request) end,
    case pubsub_rows:node(Service, Node) of
        {ok, Index, _Type, Options} ->
            case {get({?MODULE, Service, Node}), pubsub_rows:is_for_all(Options)} of
                {#served{index = Index} = Served, _} ->
                    %% Once more: to hear the last item, perhaps.
                    answer(Served, fun() -> lend(JID, Served, Ask) end, Ask);
                {_, true} ->
                    case pubsub_cluster:join({Service, Node, Index}, JID, Target) of
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
    ask(IQ, Request).

subscribe(IQ, Ask, Node, Index, JID, Fanout) ->
    try confirmed(Ask(), Index, JID, Fanout) of
        {ok, SubId, Answer} ->
            Service = pubsub_stanzas:service(IQ),
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
    case xmpp:get_type(Answer) == result andalso pubsub_rows:taken_over(JID, Index) of
        {ok, SubId} ->
            case pubsub_fanout:confirm(Fanout, SubId) of
                ok -> {ok, SubId, Answer};
                gone -> gone
            end;
        _ ->
            {no, Answer}
    end.

%% A node of the same name that was deleted, of which the session has not been told yet.
any_other(Service, Node) ->
    case get({?MODULE, Service, Node}) of
        #served{fanout = Fanout} -> Fanout;
        undefined -> none
    end.

unsubscribe(IQ, Request, Node, JID, #session{jid = JID}) ->
    Service = pubsub_stanzas:service(IQ),
    Ask = fun() -> ask(IQ, Request) end,
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
unsubscribe(IQ, Request, Node, {User, Host, _} = JID, #session{jid = {User, Host, _}}) ->
    unsubscribe_other(pubsub_stanzas:service(IQ), Node, JID, fun() -> ask(IQ, Request) end);
unsubscribe(IQ, Request, _Node, _JID, _Session) ->
    ask(IQ, Request).

%% Another session of the same user, perhaps one whose connection has broken.
unsubscribe_other(Service, Node, JID, Ask) ->
    case pubsub_rows:node(Service, Node) of
        {ok, Index, _, _} ->
            Key = {Service, Node, Index},
            case lists:keyfind(JID, 1, pubsub_cluster:subscribers(Key)) of
                {JID, SubId} ->
                    pubsub_rows:write_state(JID, Index, SubId),
                    Answer = try Ask()
                             after pubsub_rows:taken_back(JID, Index)
                             end,
                    xmpp:get_type(Answer) == result andalso pubsub_cluster:drop(Key, [JID]),
                    Answer;
                false ->
                    Ask()
            end;
        none ->
            Ask()
    end.

%% Subscribers may read where others may not, even when the node was closed after they came.
items(IQ, Request, Node, #session{jid = JID}) ->
    Ask = fun() -> ask(IQ, Request) end,
    case served(pubsub_stanzas:service(IQ), Node) of
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
    Ask = fun() -> ask(IQ, Request) end,
    case served(pubsub_stanzas:service(IQ), Node) of
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
            case pubsub_rows:node(Service, Node) of
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

%% What a request does while mod_pubsub has the subscription.
-spec lend(jid:ljid(), #served{}, fun(() -> iq())) -> iq().
lend(JID, #served{index = Index, subid = SubId}, Ask) ->
    pubsub_rows:write_state(JID, Index, SubId),
    try Ask()
    after pubsub_rows:taken_back(JID, Index)
    end.

%% Those of this session, and those that mod_pubsub has of the user.
subscriptions(IQ, Request, Node, #session{jid = JID}) ->
    Answer = ask(IQ, Request),
    Service = pubsub_stanzas:service(IQ),
    pubsub_stanzas:add_children(
      Answer, <<"subscriptions">>,
      [pubsub_stanzas:subscription(JID, SubId, [{<<"node">>, Each} || Node == <<>>])
       || {{?MODULE, Of, Each}, #served{subid = SubId}} <- get(), Of == Service,
          Node == <<>> orelse Node == Each]).
