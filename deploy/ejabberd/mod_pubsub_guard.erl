%%% Keeps browsers to what django-pubsub's pages need, and ends the sessions of users who have
%%% logged out of Django.  deploy/ejabberd.yml loads it for the hosts of guests and of users, and
%%% says how to install it.
%%%
%%% What it relies on, seen with ejabberd 23.01:
%%% - the hooks user_send_packet, user_receive_packet, c2s_auth_result, c2s_session_opened,
%%%   c2s_terminated, c2s_handle_info and check_decoded_jwt run in the process of the stream that they
%%%   are about;
%%% - {http_ws, Pid, _} or {http_bind, Pid, _} in the state's socket names a stream's second process, and
%%%   the third, which has the connection, monitors that one;
%%% - ejabberd goes on as if nothing had been said when a hook fails, so what forbids must not fail;
%%% - what is nested some thousand deep ends ejabberd as soon as it is written (fast_xml recurses on
%%%   the stack of a thread), and any answer repeats what was asked;
%%% - mod_pubsub serves a request in the process of who has sent it: the next one finds it done;
%%% - mod_pubsub keeps each subscription in the Mnesia table pubsub_state (db_type: mnesia).
-module(mod_pubsub_guard).

-behaviour(gen_mod).
-behaviour(gen_server).

-export([start/2, stop/1, reload/3, depends/2, mod_opt_type/1, mod_options/1, mod_doc/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, ejabberd_started/0]).
-export([user_send_packet/1, user_receive_packet/1, check_decoded_jwt/5, c2s_auth_result/3,
         c2s_session_opened/1, c2s_handle_info/2, c2s_terminated/2, sm_remove_connection_hook/3]).
-export([decode_iq_subel/1, process_iq/1]).

-include_lib("kernel/include/logger.hrl").
-include_lib("ejabberd/include/pubsub.hrl").

-define(NS, <<"urn:django-pubsub:guard:1">>).
-define(NS_PUBSUB, <<"http://jabber.org/protocol/pubsub">>).
-define(NS_DISCO_INFO, <<"http://jabber.org/protocol/disco#info">>).
-define(NS_PING, <<"urn:xmpp:ping">>).
-define(NS_SESSION, <<"urn:ietf:params:xml:ns:xmpp-session">>).

-define(MAX_DEPTH, 100).            % of elements in a stanza
-define(END_LIMIT, timer:seconds(3)).
-define(TIDYING, 300).              % ms after what a session has asked
-define(CLEANING, timer:minutes(10)).
-define(GUESSES_OF_STREAM, 5).
-define(GUESSES, 20).               % of one name from one address, in so many seconds
-define(GUESSES_SECONDS, 600).
-define(NS_SASL, <<"urn:ietf:params:xml:ns:xmpp-sasl">>).
-define(LOG_LINE, 500).             % bytes, and those that ejabberd begins each line with
-define(LOG_SECONDS, 10).
-define(LOG_LINES, 200).            % of one host in so many seconds
-define(LOG_LINES_OF_SESSION, 20).  % in a minute

%% As in fast_xml's fxml.hrl, whose application has another name in Debian.
-record(xmlel, {name = <<>> :: binary(),
                attrs = [] :: [{binary(), binary()}],
                children = [] :: list()}).

%% What has been said by <end/>: tokens of a user, or those of one session of his in Django (none is
%% <<>>), that were issued at a time or before it are refused.  (The atoms are for patterns.)
-record(pubsub_guard_end, {key :: {binary() | '$1', binary(), binary() | '$2'},
                           before :: float() | all | '_',
                           at :: integer() | '$3'}).

-type state() :: ejabberd_c2s:state().
-type refusal() :: {deny, What :: iodata(), Error :: tuple()}.

%%% gen_mod

-spec start(binary(), gen_mod:opts()) -> {ok, pid()} | {error, term()}.
start(Host, Opts) ->
    case pubsub_listeners:check() of
        ok -> gen_mod:start_child(?MODULE, Host, Opts);
        Error -> Error
    end.

-spec stop(binary()) -> ok | {error, term()}.
stop(Host) ->
    gen_mod:stop_child(?MODULE, Host).

%% Options are read where they are needed.
-spec reload(binary(), gen_mod:opts(), gen_mod:opts()) -> ok.
reload(_Host, _NewOpts, _OldOpts) ->
    ok.

-spec depends(binary(), gen_mod:opts()) -> [{module(), hard | soft}].
depends(_Host, _Opts) ->
    [].

-spec mod_opt_type(atom()) -> econf:validator().
mod_opt_type(access) -> econf:acl();
mod_opt_type(uncounted) -> econf:acl();
mod_opt_type(service) -> econf:host();
mod_opt_type(forget_subscriptions) -> econf:bool();
mod_opt_type(max_subscriptions) -> econf:pos_int(infinity);
mod_opt_type(max_sessions_per_address) -> econf:pos_int(infinity);
mod_opt_type(memory) -> econf:timeout(second).

-spec mod_options(binary()) -> [{atom(), term()}].
mod_options(Host) ->
    [{access, none},
     {uncounted, none},
     {service, <<"pubsub.", Host/binary>>},
     {forget_subscriptions, false},
     {max_subscriptions, 200},
     {max_sessions_per_address, 200},
     {memory, timer:hours(24)}].

-spec mod_doc() -> #{desc := binary()}.
mod_doc() ->
    #{desc => <<"Keeps browsers to what django-pubsub's pages need, and ends the sessions of users "
                "who have logged out of Django.  The options are explained in django-pubsub's "
                "deploy/ejabberd.yml.">>}.

%%% The process: it holds the table of this host, which all its streams write, and cleans up

init([Host | _]) ->
    process_flag(trap_exit, true),
    ets:new(table(Host), [named_table, public, ordered_set, {write_concurrency, true}]),
    ejabberd_mnesia:create(?MODULE, pubsub_guard_end,
                           [{disc_copies, [node()]},
                            {attributes, record_info(fields, pubsub_guard_end)}]),
    [ejabberd_hooks:add(Hook, Host, ?MODULE, Hook, Priority) || {Hook, Priority} <- hooks()],
    gen_iq_handler:add_iq_handler(ejabberd_local, Host, ?NS, ?MODULE, process_iq),
    %% To clean up then: mod_pubsub may start later than we do.
    ejabberd_hooks:add(ejabberd_started, ?MODULE, ejabberd_started, 50),
    {ok, _} = timer:send_interval(?CLEANING, clean),
    {ok, Host}.

handle_call(clean, _From, Host) ->
    {reply, clean(Host), Host}.

handle_cast(_Request, Host) ->
    {noreply, Host}.

handle_info(clean, Host) ->
    %% When this process ends its hooks do, too.
    try clean(Host)
    catch Class:Reason:Trace -> ?LOG_ERROR("Cannot clean up: ~p", [{Class, Reason, Trace}])
    end,
    {noreply, Host};
handle_info(_Info, Host) ->
    {noreply, Host}.

terminate(_Reason, Host) ->
    gen_iq_handler:remove_iq_handler(ejabberd_local, Host, ?NS),
    [ejabberd_hooks:delete(Hook, Host, ?MODULE, Hook, Priority) || {Hook, Priority} <- hooks()],
    ok.

%% Those that forbid come before anybody who would act on what is forbidden (100 is usual), and the
%% one of tokens after ejabberd's own.
-spec hooks() -> [{atom(), integer()}].
hooks() ->
    [{user_send_packet, 10}, {user_receive_packet, 50}, {c2s_auth_result, 50},
     {check_decoded_jwt, 110}, {c2s_session_opened, 50}, {c2s_handle_info, 50},
     {c2s_terminated, 50}, {sm_remove_connection_hook, 110}].

-spec ejabberd_started() -> ok.
ejabberd_started() ->
    lists:foreach(fun(Host) -> ok = gen_server:call(table(Host), clean, infinity) end,
                  guarded_hosts()).

-spec clean(binary()) -> ok.
clean(Host) ->
    %% A crash of ejabberd leaves subscriptions of sessions behind, and a killed stream its count.
    case dead_subscriptions(Host) of
        {ok, []} -> ok;
        {ok, Dead} ->
            unsubscribe(Dead),
            ?LOG_NOTICE("~ts: removed ~b subscriptions of sessions that are not there",
                        [Host, length(Dead)]);
        unknown -> ok
    end,
    forget_streams(Host, '_'),
    Past = now_seconds() div ?GUESSES_SECONDS,
    ets:select_delete(table(Host),
                      [{{{guesses, '_', '_'}, '$1', '_'}, [{'<', '$1', Past}], [true]}]),
    Forgotten = now_seconds() - option(Host, memory) div 1000,
    Old = mnesia:dirty_select(
            pubsub_guard_end,
            [{#pubsub_guard_end{key = {'$1', Host, '$2'}, at = '$3', before = '_'},
              [{'<', '$3', Forgotten}], [{{'$1', Host, '$2'}}]}]),
    lists:foreach(fun(Key) -> mnesia:dirty_delete(pubsub_guard_end, Key) end, Old).

%%% What a browser may send

-spec user_send_packet({tuple() | drop, state()}) ->
          {tuple() | drop, state()} | {stop, {drop, state()}}.
user_send_packet({drop, State}) ->
    {drop, State};
user_send_packet({Packet, State}) ->
    try
        case is_deep(Packet) of
            true -> {stop, {drop, end_stream(State)}};
            false -> judge_and_act(Packet, State)
        end
    catch
        Class:Reason:Trace ->
            log(maps:get(lserver, State, <<>>), stanza, "what cannot be answered: ~ts",
                [told({Class, Reason, Trace})]),
            {stop, {drop, State}}
    end.

-spec judge_and_act(tuple(), state()) -> {tuple(), state()} | {stop, {drop, state()}}.
judge_and_act(Packet, State) ->
    try judge(Packet, State) of
        {allow, State1} -> {Packet, tidy_later(State1)};
        {deny, What, Error} -> {stop, {drop, refuse(Packet, What, Error, State)}}
    catch
        Class:Reason:Trace ->
            What = ["what cannot be judged: ", told({Class, Reason, Trace})],
            {stop, {drop, refuse(Packet, What, xmpp:err_bad_request(), State)}}
    end.

%% No answer can be given that repeats it.
-spec end_stream(state()) -> state().
end_stream(#{lang := Lang} = State) ->
    Error = xmpp:serr_policy_violation(<<"Too many elements in elements">>, Lang),
    ejabberd_c2s:send(log_stanza("elements in elements, too deep", State), Error).

-spec is_deep(tuple()) -> boolean().
is_deep(Packet) ->
    try is_deep(elements(Packet), ?MAX_DEPTH)
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
    State1 = log_stanza(What, State),
    case xmpp:get_type(Packet) of
        Type when Type == error; Type == result -> State1;  % an answer is never answered
        _ -> ejabberd_c2s:send(State1, xmpp:make_error(Packet, Error))
    end.

-spec judge(tuple(), state()) -> {allow, state()} | refusal().
judge(Packet, #{jid := JID, lserver := Host} = State) ->
    {User, Host, _} = jid:tolower(JID),
    To = jid:tolower(xmpp:get_to(Packet)),
    Own = To == {<<>>, Host, <<>>} orelse To == {User, Host, <<>>},
    Service = To == {<<>>, option(Host, service), <<>>},
    case {xmpp:get_name(Packet), xmpp:get_type(Packet)} of
        {<<"iq">>, Type} when Type == result; Type == error ->
            allow_if(Own orelse is_publisher(Host, xmpp:get_to(Packet)), Packet, State);
        {<<"iq">>, Type} when Own; Service ->
            judge_request(Type, Service, Packet, State);
        {<<"presence">>, Type} when Type == available; Type == unavailable ->
            allow_if(To == {User, Host, <<>>}, Packet, State);
        _ ->
            forbidden(Packet)
    end.

-spec judge_request(get | set, boolean(), tuple(), state()) -> {allow, state()} | refusal().
judge_request(Type, Service, IQ, State) ->
    case {Service, Type, [{El, fxml:get_tag_attr_s(<<"xmlns">>, El)} || El <- elements(IQ)]} of
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
    [El] = elements(IQ),
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
            {deny, ["a subscription of ", quoted(jid:encode(Subscriber)), " to ", quoted(Node)],
             mod_pubsub:extended_error(xmpp:err_bad_request(), mod_pubsub:err_invalid_jid())}
    end.

%% What a session subscribes: by its full JID or not, and which node.  It is remembered, so it is
%% small, however long the names are that a visitor makes up.
-type held() :: {IsFull :: boolean(), mod_pubsub:nodeIdx() | {hash, binary()}}.

-spec index(binary(), binary()) -> none | mod_pubsub:nodeIdx() | {hash, binary()}.
index(Host, Node) ->
    try mnesia:dirty_read(pubsub_node, {option(Host, service), Node}) of
        [#pubsub_node{id = Index}] -> Index;
        [] -> none
    catch
        exit:{aborted, _} -> {hash, crypto:hash(sha256, Node)}  % the tables are in SQL
    end.

%% A session knows what it has asked for.  Only when that is too much it is found out what it has.
-spec hold(binary(), held(), binary(), state()) -> {allow, state()} | refusal().
hold(Host, New, Node, #{jid := JID} = State) ->
    Asked = maps:get(?MODULE, State, #{}),
    Max = option(Host, max_subscriptions),
    Held = case map_size(Asked) >= Max andalso not maps:is_key(New, Asked) of
               true -> maps:filter(fun(Key, _) -> is_subscribed(jid:tolower(JID), Key) end, Asked);
               false -> Asked
           end,
    case map_size(Held) < Max orelse maps:is_key(New, Held) of
        true ->
            {allow, State#{?MODULE => Held#{New => true}}};
        false ->
            {deny, ["more than ", integer_to_binary(Max), " subscriptions, the next to ",
                    quoted(Node)],
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
    Namespaces = [[" ", quoted(fxml:get_tag_attr_s(<<"xmlns">>, El))]
                  || El <- lists:sublist(elements(Packet), 3)],
    {deny,
     [xmpp:get_name(Packet), " (", atom_to_binary(xmpp:get_type(Packet)), ")", Namespaces, " to ",
      quoted(jid:encode(xmpp:get_to(Packet)))],
     xmpp:err_forbidden()}.

%% Of what mod_pubsub does not let him do the log says nothing by itself.
-spec user_receive_packet({tuple(), state()}) -> {tuple(), state()}.
user_receive_packet({Packet, #{lserver := Host} = State} = Received)
  when element(1, Packet) == iq ->
    try
        {<<>>, Service, <<>>} = jid:tolower(xmpp:get_from(Packet)),
        {error, Service} = {xmpp:get_type(Packet), option(Host, service)},
        [What | _] = [[Name, " at ", quoted(fxml:get_tag_attr_s(<<"node">>, El))]
                      || #xmlel{children = Asked} <- elements(Packet),
                         #xmlel{name = Name} = El <- Asked,
                         lists:member(Name, [<<"create">>, <<"publish">>, <<"retract">>])],
        {Packet, log_stanza(What, State)}
    catch
        error:_ -> Received
    end;
user_receive_packet(Received) ->
    Received.

%%% Who may log in

%% Refuses what <end/> has ended, and what would outlive our memory of that.
-spec check_decoded_jwt(boolean(), map(), term(), binary(), binary()) -> boolean().
check_decoded_jwt(true, Fields, _Signature, Host, User) ->
    try
        Token = {number(maps:get(<<"iat">>, Fields, 0)), maps:get(<<"sid">>, Fields, <<>>)},
        Long = number(maps:get(<<"exp">>, Fields)) > now_seconds() + option(Host, memory) div 1000,
        case Long orelse is_ended(User, Host, Token) of
            true ->
                log(Host, login, "a token of ~ts@~ts that ~ts",
                    [cut(User, 100), Host, case Long of
                                     true -> <<"is valid for longer than `memory` says">>;
                                     false -> <<"was issued before his sessions were ended">>
                                 end]),
                false;
            false ->
                put(?MODULE, Token),
                true
        end
    catch
        Class:Reason ->
            ?LOG_ERROR("A token of ~ts@~ts is refused, because it cannot be judged: ~p",
                       [User, Host, {Class, Reason}]),
            false
    end;
check_decoded_jwt(Acc, _Fields, _Signature, _Host, _User) ->
    Acc.

%% He may have been logged out between his password and his session.
-spec c2s_session_opened(state()) -> state().
c2s_session_opened(#{user := User, lserver := Host, lang := Lang} = State) ->
    case get(?MODULE) of
        {_, _} = Token ->
            case is_ended(User, Host, Token) of
                true -> ejabberd_c2s:send(
                          State, xmpp:serr_policy_violation(<<"Logged out">>, Lang));
                false -> tidy_later(State)
            end;
        undefined ->
            tidy_later(State)
    end.

-spec is_ended(binary(), binary(), {float(), binary()}) -> boolean().
is_ended(User, Host, {IssuedAt, Session}) ->
    Keys = lists:usort([{User, Host, <<>>}, {User, Host, Session}]),
    lists:any(fun(#pubsub_guard_end{before = all}) -> true;
                 (#pubsub_guard_end{before = Before}) -> IssuedAt =< Before
              end,
              lists:flatmap(fun(Key) -> mnesia:dirty_read(pubsub_guard_end, Key) end, Keys)).

-spec c2s_auth_result(state(), true | {false, binary()}, binary()) -> state() | {stop, state()}.
c2s_auth_result(#{ip := {IP, _}, lserver := Host} = State, Result, User) ->
    case {is_uncounted(Host, IP), Result} of
        {allow, _} ->
            State;
        {deny, {false, _}} ->
            count_guess(State, User);
        {deny, true} ->
            %% A token cannot be guessed, and so its user is not shut out by who guesses.
            case maps:get(auth_module, State, none) =/= ejabberd_auth_jwt
                andalso guesses(State, User, 0) >= ?GUESSES of
                true -> {stop, turn_away(State, User)};
                false -> count_session(State, User)
            end
    end.

%% Who comes by the unix socket, and not by nginx, has no address.
-spec is_uncounted(binary(), inet:ip_address() | local) -> allow | deny.
is_uncounted(_Host, local) -> deny;
is_uncounted(Host, IP) -> acl:match_rule(Host, option(Host, uncounted), IP).

%% A stream ends with its fifth wrong password.  After twenty for one name from one address no
%% password of that name is taken from there for a while: the right one gets the same answer as a
%% wrong one, or guessing would go on.  Nobody else at that address notices.
-spec count_guess(state(), binary()) -> state() | {stop, state()}.
count_guess(State, User) ->
    OfStream = maps:get(pubsub_guard_guesses, State, 0) + 1,
    case guesses(State, User, 1) > ?GUESSES orelse OfStream >= ?GUESSES_OF_STREAM of
        true -> {stop, turn_away(State, User)};
        false -> State#{pubsub_guard_guesses => OfStream}
    end.

%% So many there have been of late.  Names have a thousand places: nobody fills the memory.
-spec guesses(state(), binary(), 0 | 1) -> non_neg_integer().
guesses(#{ip := {IP, _}, lserver := Host}, User, More) ->
    Key = {guesses, address(IP), erlang:phash2(jid:nodeprep(User), 1000)},
    Now = now_seconds() div ?GUESSES_SECONDS,
    case ets:lookup(table(Host), Key) of
        [{Key, Now, Count}] when More == 0 -> Count;
        [{Key, Now, _}] -> ets:update_counter(table(Host), Key, {3, More});
        _ when More == 0 -> 0;
        _ -> ets:insert(table(Host), {Key, Now, More}), More
    end.

%% What ejabberd says to a wrong password, so that a page tries its other key; then the end.
-spec turn_away(state(), binary()) -> state().
turn_away(#{ip := {IP, _}, lserver := Host, lang := Lang} = State, User) ->
    log(Host, login, "~ts@~ts from ~ts, after too many wrong passwords",
        [cut(User, 100), Host, misc:ip_to_list(IP)]),
    Reason = #xmlel{name = <<"not-authorized">>},
    Failure = #xmlel{name = <<"failure">>, attrs = [{<<"xmlns">>, ?NS_SASL}], children = [Reason]},
    Text = <<"Too many wrong passwords">>,
    ejabberd_c2s:send(xmpp_stream_in:send(State, Failure), xmpp:serr_policy_violation(Text, Lang)).

%% Counts the sessions of an address, from the login on.
-spec count_session(state(), binary()) -> state() | {stop, state()}.
count_session(#{ip := {IP, _}, lserver := Host, lang := Lang} = State, User) ->
    Max = option(Host, max_sessions_per_address),
    Address = address(IP),
    Counted = {Address, self()},
    ets:insert(table(Host), {Counted}),
    case count(Address) > Max andalso recount(Address) > Max of
        true ->
            ets:delete(table(Host), Counted),
            log(Host, login, "the login of ~ts@~ts from ~ts, which has ~p sessions already",
                [cut(User, 100), Host, misc:ip_to_list(IP), Max]),
            Text = <<"Too many sessions from your address">>,
            {stop, ejabberd_c2s:send(State, xmpp:serr_policy_violation(Text, Lang))};
        false ->
            State
    end.

-spec c2s_terminated(state(), term()) -> state().
c2s_terminated(#{ip := {IP, _}, lserver := Host} = State, _Reason) ->
    ets:delete(table(Host), {address(IP), self()}),
    State;
c2s_terminated(State, _Reason) ->
    State.

%% What was subscribed by full JID goes with its session, and what was by bare JID with the last one
%% of the user, where it is to be forgotten.
-spec sm_remove_connection_hook(ejabberd_sm:sid(), jid:jid(), ejabberd_sm:info()) -> ok.
sm_remove_connection_hook(_SID, JID, _Info) ->
    {User, Host, Resource} = jid:tolower(JID),
    lists:foreach(fun(Each) ->
                          case dead_subscriptions(User, Host, Each) of
                              {ok, Dead} -> unsubscribe(Dead);
                              unknown -> ok
                          end
                  end, [Resource, <<>>]).

-spec count(term()) -> non_neg_integer().
count(Address) ->
    lists:sum([ets:select_count(table(Host), [{{{Address, '_'}}, [], [true]}])
               || Host <- guarded_hosts()]).

-spec recount(term()) -> non_neg_integer().
recount(Address) ->
    [forget_streams(Host, Address) || Host <- guarded_hosts()],
    count(Address).

-spec forget_streams(binary(), term()) -> ok.
forget_streams(Host, Address) ->
    Counted = ets:select(table(Host), [{{{Address, '$1'}}, [], ['$_']}]),
    [ets:delete(table(Host), Key) || {{_, Pid} = Key} <- Counted, not is_process_alive(Pid)],
    ok.

%% Who has an IPv6 address has all that begin with its first half.
-spec address(inet:ip_address() | local) -> term().
address({0, 0, 0, 0, 0, 16#ffff, High, Low}) ->
    {High bsr 8, High band 255, Low bsr 8, Low band 255};
address({A, B, C, D, _, _, _, _}) ->
    {A, B, C, D, '/64'};
address(IP) ->
    IP.

%%% Memory: pages are idle most of the time, with the garbage of what they have asked

%% A visitor who has just subscribed holds 85 kB, of which 14 are in use.  His three processes would
%% keep the rest for as long as nothing else happens.
-spec tidy_later(state()) -> state().
tidy_later(#{pubsub_guard_tidying := true} = State) ->
    State;
tidy_later(State) ->
    erlang:send_after(?TIDYING, self(), {?MODULE, tidy}),
    State#{pubsub_guard_tidying => true}.

-spec c2s_handle_info(state(), term()) -> state() | {stop, state()}.
c2s_handle_info(State, {?MODULE, tidy}) ->
    Pids = processes(State),
    %% From outside: less is in use when they wait than in the midst of this.  A heap shrinks by steps.
    spawn(fun() -> [erlang:garbage_collect(Pid) || _ <- [1, 2], Pid <- Pids] end),
    {stop, maps:remove(pubsub_guard_tidying, State)};
c2s_handle_info(State, _Info) ->
    State.

%% Those of a stream, ours included; of a stream over TCP there is one only.
-spec processes(state()) -> [pid()].
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

%%% What the publisher may ask

-spec decode_iq_subel(#xmlel{}) -> #xmlel{}.
decode_iq_subel(El) ->
    El.  % xmpp does not know our namespace

-spec process_iq(tuple()) -> tuple() | ignore.
process_iq(IQ) ->
    From = xmpp:get_from(IQ),
    {_, Host, _} = jid:tolower(xmpp:get_to(IQ)),
    [El] = elements(IQ),
    case is_publisher(Host, From) andalso {xmpp:get_type(IQ), El} of
        false ->
            log(Host, stanza, "~ts of ~ts, who is not the publisher",
                [El#xmlel.name, jid:encode(From)]),
            xmpp:make_error(IQ, xmpp:err_forbidden());
        {get, #xmlel{name = <<"status">>}} ->
            answer(IQ, fun() -> {ok, status(Host)} end);
        {set, #xmlel{name = <<"end">>}} ->
            case read_end(El) of
                {User, Session, Before} ->
                    answer(IQ, fun() -> end_sessions(User, Host, Session, Before) end);
                error ->
                    Text = <<"user must be a user's name, before a time in seconds, session (if "
                             "there is one) not empty">>,
                    xmpp:make_error(IQ, xmpp:err_bad_request(Text, xmpp:get_lang(IQ)))
            end;
        _ ->
            xmpp:make_error(IQ, xmpp:err_bad_request())
    end.

%% In a process of its own, because the publisher's stream would wait with us.
-spec answer(tuple(), fun(() -> {ok, #xmlel{}} | ok)) -> ignore.
answer(IQ, Work) ->
    spawn(fun() ->
                  ejabberd_router:route(
                    try Work() of
                        {ok, El} -> xmpp:make_iq_result(IQ, El);
                        ok -> xmpp:make_iq_result(IQ)
                    catch
                        Class:Reason:Trace ->
                            ?LOG_ERROR("Failed: ~p", [{Class, Reason, Trace}]),
                            xmpp:make_error(IQ, xmpp:err_internal_server_error())
                    end)
          end),
    ignore.

-spec read_end(#xmlel{}) -> {binary(), binary(), float() | all} | error.
read_end(El) ->
    User = case jid:nodeprep(fxml:get_tag_attr_s(<<"user">>, El)) of
               <<>> -> error;
               Name -> Name
           end,
    Session = case fxml:get_tag_attr(<<"session">>, El) of
                  false -> <<>>;
                  {value, <<>>} -> error;
                  {value, Text} -> Text
              end,
    Before = seconds(fxml:get_tag_attr_s(<<"before">>, El)),
    case lists:member(error, [User, Session, Before]) of
        true -> error;
        false when Session == <<>> -> {User, Session, Before};
        false -> {User, Session, all}
    end.

-spec end_sessions(binary(), binary(), binary(), float() | all) -> ok.
end_sessions(User, Host, Session, Before) ->
    Key = {User, Host, Session},
    {atomic, ok} =
        mnesia:sync_transaction(
          fun() ->
                  Latest = case mnesia:read(pubsub_guard_end, Key, write) of
                               [#pubsub_guard_end{before = Known}] -> max(Known, Before);
                               [] -> Before
                           end,
                  mnesia:write(#pubsub_guard_end{key = Key, before = Latest, at = now_seconds()})
          end),
    ok = mnesia:sync_log(),  % or a crash within two seconds would take it
    %% Who comes from here on is refused or has a new token.
    Streams = [{monitor(process, Pid), SID, Resource}
               || Resource <- ejabberd_sm:get_user_resources(User, Host),
                  {_, Pid} = SID <- ejabberd_sm:get_session_sids(User, Host, Resource)],
    [ejabberd_c2s:route(Pid, kick) || {_, {_, Pid}, _} <- Streams],
    ?LOG_NOTICE("~ts@~ts: ending ~b sessions", [User, Host, length(Streams)]),
    Timer = erlang:start_timer(?END_LIMIT, self(), enough),
    %% A page that does not read what it is sent would hold its stream for as long as it likes.
    lists:foreach(fun({_, {_, Pid} = SID, Resource}) ->
                          exit(Pid, kill),
                          ejabberd_sm:close_session(SID, User, Host, Resource)
                  end, wait(Streams, Timer)).

%% The streams that have not ended when the time is over.
-spec wait([Stream], reference()) -> [Stream] when Stream :: {reference(), tuple(), binary()}.
wait([], _Timer) ->
    [];
wait([{Reference, _, _} | Others] = Streams, Timer) ->
    receive
        {'DOWN', Reference, _, _, _} -> wait(Others, Timer);
        {timeout, Timer, enough} -> Streams
    end.

-spec status(binary()) -> #xmlel{}.
status(Host) ->
    Dead = case [dead_subscriptions(Each) || Each <- ejabberd_option:hosts()] of
               [unknown | _] -> [];
               Found -> [{<<"dead">>,
                          integer_to_binary(lists:sum([length(List) || {ok, List} <- Found]))}]
           end,
    Time = float_to_binary(erlang:system_time(microsecond) / 1.0e6, [{decimals, 6}]),
    #xmlel{name = <<"status">>,
           attrs = [{<<"xmlns">>, ?NS}, {<<"version">>, <<"1">>}, {<<"time">>, Time},
                    {<<"db">>, atom_to_binary(db_type(Host))} | Dead]}.

%%% Subscriptions of sessions that are not there

-type dead() :: {jid:ljid(), mod_pubsub:nodeIdx(), Service :: binary()}.

-spec dead_subscriptions(binary()) -> {ok, [dead()]} | unknown.
dead_subscriptions(Host) ->
    dead_subscriptions('$1', Host, '$2').

-spec dead_subscriptions(binary() | atom(), binary(), binary() | atom()) -> {ok, [dead()]} | unknown.
dead_subscriptions(User, Host, Resource) ->
    Pattern = #pubsub_state{stateid = {{User, Host, Resource}, '$3'}, subscriptions = '$4',
                            nodeidx = '_', items = '_', affiliation = '_'},
    try mnesia:dirty_select(pubsub_state, [{Pattern, [{'=/=', '$4', []}], ['$_']}]) of
        States ->
            {ok, [{JID, Index, Service}
                  || #pubsub_state{stateid = {JID, Index}} <- States,
                     is_dead(JID),
                     #pubsub_node{nodeid = {Service, _}}
                         <- mnesia:dirty_index_read(pubsub_node, Index, #pubsub_node.id)]}
    catch
        exit:{aborted, _} -> unknown
    end.

-spec is_dead(jid:ljid()) -> boolean().
is_dead({User, Host, <<>>}) ->
    lists:member(Host, guarded_hosts()) andalso option(Host, forget_subscriptions)
        andalso ejabberd_sm:get_user_resources(User, Host) == [];
is_dead({User, Host, Resource}) ->
    ejabberd_sm:get_session_sid(User, Host, Resource) == none.

-spec unsubscribe([dead()]) -> ok.
unsubscribe(Dead) ->
    lists:foreach(fun({JID, Index, Service}) ->
                          Subscriber = jid:make(JID),
                          mod_pubsub:node_action(Service, <<"flat">>, unsubscribe_node,
                                                 [Index, Subscriber, Subscriber, all])
                  end, Dead),
    %% A user may have come back meanwhile and found his subscription: it is gone, and he has to make
    %% it again, as pages do when they lose their stream.
    lists:foreach(fun({User, Host, <<>>}) -> ejabberd_sm:kick_user(User, Host);
                     (_) -> ok
                  end, lists:usort([JID || {JID, _, _} <- Dead])).

-spec db_type(binary()) -> atom().
db_type(Host) ->
    try mod_pubsub_opt:db_type(ejabberd_router:host_of_route(option(Host, service)))
    catch _:_ -> none
    end.

%%% Small things

%% Also the name of the host's process.
-spec table(binary()) -> atom().
table(Host) ->
    gen_mod:get_module_proc(Host, ?MODULE).

-spec guarded_hosts() -> [binary()].
guarded_hosts() ->
    [Host || Host <- ejabberd_option:hosts(), ets:whereis(table(Host)) =/= undefined].

-spec option(binary(), atom()) -> term().
option(Host, Name) ->
    gen_mod:get_module_opt(Host, ?MODULE, Name).

-spec is_publisher(binary(), jid:jid()) -> boolean().
is_publisher(Host, JID) ->
    acl:match_rule(Host, option(Host, access), JID) == allow.

%% As XML, whether ejabberd has decoded them or not (its option validate_stream).
-spec elements(tuple()) -> [#xmlel{}].
elements(Packet) ->
    [El || #xmlel{} = El <- [xmpp:encode(Each) || Each <- xmpp:get_els(Packet)]].

-spec now_seconds() -> integer().
now_seconds() ->
    erlang:system_time(second).

-spec number(term()) -> float().
number(Number) when is_number(Number) ->
    float(Number).

-spec seconds(binary()) -> float() | error.
seconds(Text) ->
    try binary_to_float(Text)
    catch error:badarg ->
            try float(binary_to_integer(Text))
            catch error:badarg -> error
            end
    end.

%% A word of a visitor's, for the log: on one line, and not long.
-spec quoted(binary()) -> iodata().
quoted(Text) ->
    Characters = unicode:characters_to_list(cut(Text, 100)),
    unicode:characters_to_binary(io_lib:format("~0tp", [Characters])).

%% By bytes: one grapheme may have any number of them.  What is no UTF-8 ends there, too.
-spec cut(binary(), pos_integer()) -> binary().
cut(Text, Size) ->
    case unicode:characters_to_binary(binary:part(Text, 0, min(Size, byte_size(Text)))) of
        Text -> Text;
        Whole when is_binary(Whole) -> <<Whole/binary, "…"/utf8>>;
        {_, Whole, _} -> <<Whole/binary, "…"/utf8>>
    end.

%% Why something failed, for the log.
-spec told(term()) -> binary().
told(Failure) ->
    unicode:characters_to_binary(io_lib:format("~0tp", [Failure], [{chars_limit, 300}])).

%%% The log: what visitors do must not fill the disk

-spec log_stanza(iodata(), state()) -> state().
log_stanza(What, #{jid := JID, ip := {IP, _}, lserver := Host} = State) ->
    Minute = now_seconds() div 60,
    Count = case maps:get(pubsub_guard_log, State, none) of
                {Minute, Before} -> Before + 1;
                _ -> 1
            end,
    Count =< ?LOG_LINES_OF_SESSION andalso
        log(Host, stanza, "~ts from ~ts~ts: ~ts",
            [cut(jid:encode(JID), 100), misc:ip_to_list(IP),
             [<<" (what follows is not logged)">> || Count == ?LOG_LINES_OF_SESSION], What]),
    State#{pubsub_guard_log => {Minute, Count}}.

%% Never fails: what is refused stays refused.  A crowd at the door does not hide what others do.
-spec log(binary(), login | stanza, string(), list()) -> ok.
log(Host, Kind, Format, Args) ->
    try
        may_log(Host, {log, Kind})
            andalso ?LOG_WARNING("Refused: ~ts", [line(io_lib:format(Format, Args))])
    catch _:_ -> ?LOG_ERROR("Cannot log what was refused at ~ts", [Host])
    end,
    ok.

-spec line(iolist()) -> binary().
line(Text) ->
    cut(unicode:characters_to_binary(Text), ?LOG_LINE).

-spec may_log(binary(), {log, login | stanza}) -> boolean().
may_log(Host, Key) ->
    Now = now_seconds() div ?LOG_SECONDS,
    case ets:lookup(table(Host), Key) of
        [{Key, Now, _}] ->
            ok;
        Past ->
            ets:insert(table(Host), {Key, Now, 0}),
            [?LOG_WARNING("~ts: ~b more refusals were not logged", [Host, Count - ?LOG_LINES])
             || {_, _, Count} <- Past, Count > ?LOG_LINES]
    end,
    ets:update_counter(table(Host), Key, {3, 1}) =< ?LOG_LINES.
