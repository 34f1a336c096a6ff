%%% What a browser may send: what pages need, to itself, its server and its service of XEP-0060, and
%%% only so many subscriptions.
%%%
%%% It runs in the process of the session, whose state knows what has been subscribed.  What it relies
%%% on, seen with ejabberd 23.01:
%%% - ejabberd goes on as if nothing had been said when a hook fails, so what forbids must not fail;
%%% - what is nested some thousand deep ends ejabberd as soon as it is written (fast_xml recurses on
%%%   the stack of a thread), and any answer repeats what was asked;
%%% - mod_pubsub serves a request in the process of who has sent it: the next one finds it done;
%%% - mod_pubsub keeps each subscription in the Mnesia table pubsub_state (db_type: mnesia).
%%%
%%% It must not know who is let in (pubsub_logins), nor what the publisher may ask (pubsub_publisher):
%%% it stands below mod_pubsub_guard, and above pubsub_refusals, pubsub_tidying, pubsub_guarded and
%%% pubsub_stanzas.  Of mod_pubsub_sessions, which may be there or not, it asks one thing.
-module(pubsub_judge).

-export([judged/2, log_answer/2]).

-include_lib("ejabberd/include/pubsub.hrl").

-define(NS_PUBSUB, <<"http://jabber.org/protocol/pubsub">>).
-define(NS_DISCO_INFO, <<"http://jabber.org/protocol/disco#info">>).
-define(NS_PING, <<"urn:xmpp:ping">>).
-define(NS_SESSION, <<"urn:ietf:params:xml:ns:xmpp-session">>).

-define(MAX_DEPTH, 100).            % of elements in a stanza

%% As in fast_xml's fxml.hrl, whose application has another name in Debian.
-record(xmlel, {name = <<>> :: binary(),
                attrs = [] :: [{binary(), binary()}],
                children = [] :: list()}).

-type state() :: ejabberd_c2s:state().
-type refusal() :: {deny, What :: iodata(), Error :: tuple()}.

%%% What a session sends

%% Lets a stanza pass, or drops and answers it.  Never fails: what cannot be judged does not pass.
-spec judged(tuple(), state()) -> {tuple(), state()} | {stop, {drop, state()}}.
judged(Packet, State) ->
    try
        case is_deep(Packet) of
            true -> {stop, {drop, end_stream(State)}};
            false -> judge_and_act(Packet, State)
        end
    catch
        Class:Reason:Trace ->
            pubsub_refusals:log(maps:get(lserver, State, <<>>), stanza,
                                "what cannot be answered: ~ts",
                                [pubsub_refusals:told({Class, Reason, Trace})]),
            {stop, {drop, State}}
    end.

-spec judge_and_act(tuple(), state()) -> {tuple(), state()} | {stop, {drop, state()}}.
judge_and_act(Packet, State) ->
    try judge(Packet, State) of
        {allow, State1} -> {Packet, pubsub_tidying:later(State1)};
        {deny, What, Error} -> {stop, {drop, refuse(Packet, What, Error, State)}}
    catch
        Class:Reason:Trace ->
            What = ["what cannot be judged: ", pubsub_refusals:told({Class, Reason, Trace})],
            {stop, {drop, refuse(Packet, What, xmpp:err_bad_request(), State)}}
    end.

%% No answer can be given that repeats it.
-spec end_stream(state()) -> state().
end_stream(#{lang := Lang} = State) ->
    Error = xmpp:serr_policy_violation(<<"Too many elements in elements">>, Lang),
    ejabberd_c2s:send(pubsub_refusals:log_stanza("elements in elements, too deep", State), Error).

-spec is_deep(tuple()) -> boolean().
is_deep(Packet) ->
    try is_deep(pubsub_stanzas:elements(Packet), ?MAX_DEPTH)
    catch _:_ -> true
    end.

-spec is_deep(list(), non_neg_integer()) -> boolean().
is_deep(Children, 0) ->
    lists:any(fun(Child) -> is_record(Child, xmlel) end, Children);
is_deep(Children, Depth) ->
    lists:any(fun(#xmlel{children = Inner}) -> is_deep(Inner, Depth - 1);
                 (_Text) -> false
              end, Children).

-spec refuse(tuple(), iodata(), tuple(), state()) -> state().
refuse(Packet, What, Error, State) ->
    State1 = pubsub_refusals:log_stanza(What, State),
    case xmpp:get_type(Packet) of
        Type when Type == error; Type == result -> State1;  % an answer is never answered
        _ -> ejabberd_c2s:send(State1, xmpp:make_error(Packet, Error))
    end.

-spec judge(tuple(), state()) -> {allow, state()} | refusal().
judge(Packet, #{jid := JID, lserver := Host} = State) ->
    {User, Host, _} = jid:tolower(JID),
    To = jid:tolower(xmpp:get_to(Packet)),
    Own = To == {<<>>, Host, <<>>} orelse To == {User, Host, <<>>},
    Service = To == {<<>>, pubsub_guarded:option(Host, service), <<>>},
    case {xmpp:get_name(Packet), xmpp:get_type(Packet)} of
        {<<"iq">>, Type} when Type == result; Type == error ->
            allow_if(Own orelse pubsub_guarded:is_publisher(Host, xmpp:get_to(Packet)),
                     Packet, State);
        {<<"iq">>, Type} when Own; Service ->
            judge_request(Type, Service, Packet, State);
        {<<"presence">>, Type} when Type == available; Type == unavailable ->
            allow_if(To == {User, Host, <<>>}, Packet, State);
        _ ->
            forbidden(Packet)
    end.

-spec judge_request(get | set, boolean(), tuple(), state()) -> {allow, state()} | refusal().
judge_request(Type, Service, IQ, State) ->
    case {Service, Type, [{El, fxml:get_tag_attr_s(<<"xmlns">>, El)}
                          || El <- pubsub_stanzas:elements(IQ)]} of
        {true, _, [{_, ?NS_PUBSUB}]} -> judge_pubsub(IQ, State);
        {_, get, [{El, ?NS_DISCO_INFO}]} -> judge_info(El, IQ, State);
        {false, get, [{_, ?NS_PING}]} -> {allow, State};
        {false, set, [{_, ?NS_SESSION}]} -> {allow, State};
        _ -> forbidden(IQ)
    end.

%% What there is to know of a node is for who may read it, and mod_pubsub counts its subscribers anew.
-spec judge_info(#xmlel{}, tuple(), state()) -> {allow, state()} | refusal().
judge_info(El, IQ, State) ->
    case decoded(El, ?NS_DISCO_INFO) of
        #xmlel{} = Query ->
            allow_if(fxml:get_tag_attr_s(<<"node">>, Query) == <<>>, IQ, State);
        error ->
            {deny, "a request that is not of XEP-0030", xmpp:err_bad_request()}
    end.

%% What ejabberd will read, not what was written: namespaces have prefixes, and attributes and
%% elements may stand there twice.
-spec decoded(#xmlel{}, binary()) -> #xmlel{} | error.
decoded(El, Namespace) ->
    try xmpp:encode(xmpp:decode(El, Namespace, []))
    catch error:{xmpp_codec, _} -> error
    end.

-spec judge_pubsub(tuple(), state()) -> {allow, state()} | refusal().
judge_pubsub(IQ, State) ->
    [El] = pubsub_stanzas:elements(IQ),
    case decoded(El, ?NS_PUBSUB) of
        #xmlel{} = Request ->
            case fxml:get_subtag(Request, <<"subscribe">>) of
                #xmlel{} = Subscribe -> judge_subscribe(Subscribe, State);
                false -> {allow, State}
            end;
        error ->
            {deny, "a request that is not of XEP-0060", xmpp:err_bad_request()}
    end.

-spec judge_subscribe(#xmlel{}, state()) -> {allow, state()} | refusal().
judge_subscribe(Subscribe, #{jid := JID, lserver := Host} = State) ->
    Full = jid:tolower(JID),
    Node = fxml:get_tag_attr_s(<<"node">>, Subscribe),
    Subscriber = jid:tolower(jid:decode(fxml:get_tag_attr_s(<<"jid">>, Subscribe))),
    case lists:member(Subscriber, [Full, jid:remove_resource(Full)]) of
        true ->
            case index(Host, Node) of
                none -> {allow, State};  % to be told so by mod_pubsub
                Index -> hold(Host, {Subscriber == Full, Index}, Node, State)
            end;
        false ->
            {deny, ["a subscription of ", pubsub_refusals:quoted(jid:encode(Subscriber)), " to ",
                    pubsub_refusals:quoted(Node)],
             mod_pubsub:extended_error(xmpp:err_bad_request(), mod_pubsub:err_invalid_jid())}
    end.

%% What a session subscribes: by its full JID or not, and which node.  It is remembered, so it is
%% small, however long the names are that a visitor makes up.
-type held() :: {IsFull :: boolean(), mod_pubsub:nodeIdx() | {hash, binary()}}.

-spec index(binary(), binary()) -> none | mod_pubsub:nodeIdx() | {hash, binary()}.
index(Host, Node) ->
    try mnesia:dirty_read(pubsub_node, {pubsub_guarded:option(Host, service), Node}) of
        [#pubsub_node{id = Index}] -> Index;
        [] -> none
    catch
        exit:{aborted, _} -> {hash, crypto:hash(sha256, Node)}  % the tables are in SQL
    end.

%% A session knows what it has asked for.  Only when that is too much it is found out what it has.
-spec hold(binary(), held(), binary(), state()) -> {allow, state()} | refusal().
hold(Host, New, Node, #{jid := JID} = State) ->
    Asked = maps:get(?MODULE, State, #{}),
    Max = pubsub_guarded:option(Host, max_subscriptions),
    Held = case map_size(Asked) >= Max andalso not maps:is_key(New, Asked) of
               true -> maps:filter(fun(Key, _) -> is_subscribed(jid:tolower(JID), Key) end, Asked);
               false -> Asked
           end,
    case map_size(Held) < Max orelse maps:is_key(New, Held) of
        true ->
            {allow, State#{?MODULE => Held#{New => true}}};
        false ->
            {deny, ["more than ", integer_to_binary(Max), " subscriptions, the next to ",
                    pubsub_refusals:quoted(Node)],
             mod_pubsub:extended_error(xmpp:err_policy_violation(),
                                       mod_pubsub:err_too_many_subscriptions())}
    end.

-spec is_subscribed(jid:ljid(), held()) -> boolean().
is_subscribed(_JID, {_IsFull, {hash, _}}) ->
    true;
is_subscribed(JID, {false, Index}) ->
    has_subscription(jid:remove_resource(JID), Index);
is_subscribed(JID, {true, Index}) ->
    has_subscription(JID, Index) orelse is_served(Index).

%% mod_pubsub_sessions, if it is there, has taken it over.
-spec is_served(mod_pubsub:nodeIdx()) -> boolean().
is_served(Index) ->
    erlang:function_exported(mod_pubsub_sessions, is_subscribed, 1)
        andalso mod_pubsub_sessions:is_subscribed(Index).

-spec has_subscription(jid:ljid(), mod_pubsub:nodeIdx()) -> boolean().
has_subscription(JID, Index) ->
    case mnesia:dirty_read(pubsub_state, {JID, Index}) of
        [#pubsub_state{subscriptions = [_ | _]}] -> true;
        _ -> false
    end.

-spec allow_if(boolean(), tuple(), state()) -> {allow, state()} | refusal().
allow_if(true, _Packet, State) -> {allow, State};
allow_if(false, Packet, _State) -> forbidden(Packet).

-spec forbidden(tuple()) -> refusal().
forbidden(Packet) ->
    Namespaces = [[" ", pubsub_refusals:quoted(fxml:get_tag_attr_s(<<"xmlns">>, El))]
                  || El <- lists:sublist(pubsub_stanzas:elements(Packet), 3)],
    {deny,
     [xmpp:get_name(Packet), " (", atom_to_binary(xmpp:get_type(Packet)), ")", Namespaces, " to ",
      pubsub_refusals:quoted(jid:encode(xmpp:get_to(Packet)))],
     xmpp:err_forbidden()}.

%%% What it is answered

%% Of what mod_pubsub does not let him do the log says nothing by itself.
-spec log_answer(tuple(), state()) -> state().
log_answer(Packet, #{lserver := Host} = State) ->
    try
        {<<>>, Service, <<>>} = jid:tolower(xmpp:get_from(Packet)),
        {error, Service} = {xmpp:get_type(Packet), pubsub_guarded:option(Host, service)},
        [What | _] = [[Name, " at ", pubsub_refusals:quoted(fxml:get_tag_attr_s(<<"node">>, El))]
                      || #xmlel{children = Asked} <- pubsub_stanzas:elements(Packet),
                         #xmlel{name = Name} = El <- Asked,
                         lists:member(Name, [<<"create">>, <<"publish">>, <<"retract">>])],
        pubsub_refusals:log_stanza(What, State)
    catch
        error:_ -> State
    end.
