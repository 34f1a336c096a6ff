%%% What the owner of a node asks of mod_pubsub, and its meta-data, which anybody may ask for.
%%%
%%% mod_pubsub decides, and answers; then the sessions of all servers are put into its answer, or are
%%% put out by what the owner has said.  (They are lent to mod_pubsub while it writes down what becomes
%%% of them.)
%%%
%%% It must not know what is in the process of a session (pubsub_requests), for it runs in another one:
%%% whoever asks.  It stands below mod_pubsub_sessions, and above pubsub_cluster, pubsub_rows and
%%% pubsub_stanzas.
-module(pubsub_owners).

-export([process_pubsub_owner/1, process_disco_info/1]).

-define(NS_CLIENT, <<"jabber:client">>).
-define(NS_PUBSUB_EVENT, <<"http://jabber.org/protocol/pubsub#event">>).

%% As in fast_xml's fxml.hrl, whose application has another name in Debian.
-record(xmlel, {name = <<>> :: binary(),
                attrs = [] :: [{binary(), binary()}],
                children = [] :: list()}).

-type iq() :: tuple().

-spec process_pubsub_owner(iq()) -> iq().
process_pubsub_owner(IQ) ->
    [El] = xmpp:get_els(IQ),
    Request = xmpp:decode(El),
    Ask = fun() -> pubsub_rows:ask(process_pubsub_owner, IQ, Request) end,
    case {xmpp:get_type(IQ), xmpp:encode(Request)} of
        {Type, #xmlel{children = [#xmlel{name = Name, children = Children} = Child]}} ->
            Service = pubsub_stanzas:service(IQ),
            Node = fxml:get_tag_attr_s(<<"node">>, Child),
            Wanted = fun() -> [{pubsub_stanzas:subscriber(Each), fxml:get_tag_attr_s(Name1, Each)}
                               || #xmlel{} = Each <- Children, Name1 <- [state_name(Name)]] end,
            case {Type, Name, pubsub_rows:node(Service, Node)} of
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
    {result, owner} == pubsub_rows:node_action(Service, Type, get_affiliation,
                                               [Index, jid:remove_resource(xmpp:get_from(IQ))]).

list_subscriptions(Answer, {Service, _, _} = Key) ->
    Known = [jid:encode(Each) || Each <- pubsub_rows:all_own(Service)],
    Own = fun(#xmlel{} = El) -> lists:member(fxml:get_tag_attr_s(<<"jid">>, El), Known);
             (_) -> false
          end,
    pubsub_stanzas:add_children(
      pubsub_stanzas:without_children(Answer, <<"subscriptions">>, Own), <<"subscriptions">>,
      [pubsub_stanzas:subscription(JID, SubId, [])
       || {JID, SubId} <- pubsub_cluster:subscribers(Key)]).

%% Whom the owner puts out is not served any more before mod_pubsub is asked, so that he cannot lend
%% his subscription meanwhile.  If it then refuses the request, his session ends: it comes again.
set_subscriptions(_IQ, Ask, _Key, false, _Wanted) ->
    Ask();
set_subscriptions(IQ, Ask, {_, _, Index} = Key, true, Wanted) ->
    Known = pubsub_cluster:subscribers(Key),
    {Dropped, IsAll} = pubsub_cluster:drop(Key, [JID || {{_, _, Resource} = JID, State} <- Wanted,
                                                        Resource /= <<>>, State /= <<"subscribed">>]),
    Kept = [JID || {JID, <<"subscribed">>} <- Wanted, lists:keymember(JID, 1, Known)],
    Lent = [{JID, proplists:get_value(JID, Known, <<"late">>)} || JID <- Dropped ++ Kept],
    lists:foreach(fun({JID, SubId}) -> pubsub_rows:write_state(JID, Index, SubId) end, Lent),
    Answer = try Ask()
             after lists:foreach(fun({JID, _}) -> pubsub_rows:taken_back(JID, Index) end, Lent)
             end,
    case xmpp:get_type(Answer) of
        result ->
            answered(IQ, Answer, IsAll);
        error ->
            lists:foreach(fun end_session/1, Dropped),
            Answer
    end.

end_session({User, Host, Resource}) ->
    case ejabberd_sm:get_session_pid(User, Host, Resource) of
        none -> ok;
        Session -> ejabberd_c2s:stop_async(Session)
    end.

%% mod_pubsub lets those stay subscribed whom it would not let in any more.
set_affiliations(IQ, Answer, {Service, Node, Index} = Key, Type, Wanted) ->
    case xmpp:get_type(Answer) of
        result ->
            Bare = lists:usort([jid:remove_resource(JID) || {JID, _} <- Wanted]),
            Out = [JID || JID <- Bare, is_shut_out(Service, Node, Type, Index, JID)],
            {Dropped, IsAll} = pubsub_cluster:drop(Key, Out),
            lists:foreach(fun(JID) -> tell_unsubscribed(Service, Node, JID) end, Dropped),
            answered(IQ, Answer, IsAll);
        error ->
            Answer
    end.

%% The owner is told if some could not be reached, and may ask again.
answered(_IQ, Answer, true) ->
    Answer;
answered(IQ, _Answer, false) ->
    Text = <<"A server of the cluster has not answered: its sessions may hear events on">>,
    xmpp:make_error(IQ, xmpp:err_remote_server_timeout(Text, xmpp:get_lang(IQ))).

is_shut_out(Service, Node, Type, Index, JID) ->
    case {pubsub_rows:node_action(Service, Type, get_affiliation, [Index, jid:make(JID)]),
          pubsub_rows:node(Service, Node)} of
        {{result, Affiliation}, _} when Affiliation == outcast; Affiliation == publish_only -> true;
        {{result, none}, {ok, _, _, Options}} ->
            proplists:get_value(access_model, Options) == whitelist;
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
    case pubsub_rows:node(Service, Node) of
        {ok, _, _, Options} ->
            pubsub_rows:is_for_all(Options) orelse pubsub_cluster:end_sessions(Key);
        none ->
            ok
    end,
    Answer.

%% XEP-0060 5.4: how many subscribers a node has, in its meta-data.
-spec process_disco_info(iq()) -> iq().
process_disco_info(IQ) ->
    [El] = xmpp:get_els(IQ),
    Request = xmpp:decode(El),
    Answer = pubsub_rows:ask(process_disco_info, IQ, Request),
    Service = pubsub_stanzas:service(IQ),
    Node = fxml:get_tag_attr_s(<<"node">>, xmpp:encode(Request)),
    case {xmpp:get_type(Answer), pubsub_rows:node(Service, Node)} of
        {result, {ok, Index, Type, _}} ->
            {result, States} = pubsub_rows:node_action(Service, Type, get_node_subscriptions, [Index]),
            Others = [JID || {JID, subscribed, _} <- States] -- pubsub_rows:all_own(Service),
            Sessions = pubsub_cluster:subscribers({Service, Node, Index}),
            count_subscribers(Answer, length(Others) + length(Sessions));
        _ ->
            Answer
    end.

count_subscribers(Answer, Count) ->
    xmpp:set_els(Answer, [counted(El, integer_to_binary(Count))
                          || El <- pubsub_stanzas:elements(Answer)]).

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
