%%% Who may log in: with which token, after how many guesses, and beside how many others of his address.
%%%
%%% It runs in the process of the stream that logs in, where it keeps the token until the session is
%%% opened.  Sessions and guesses are counted in the table of the host.  ejabberd goes on as if nothing
%%% had been said when a hook fails, so a token that cannot be judged is refused.
%%%
%%% It must not know what is sent by who is in (pubsub_judge), nor who ends sessions: it stands below
%%% mod_pubsub_guard, and above pubsub_ends, pubsub_refusals, pubsub_tidying and pubsub_guarded.
-module(pubsub_logins).

-export([is_good_token/3, session_opened/1, auth_result/3, terminated/1, forget_past/1]).

-include_lib("kernel/include/logger.hrl").

-define(GUESSES_OF_STREAM, 5).
-define(GUESSES, 20).               % of one name from one address, in so many seconds
-define(GUESSES_SECONDS, 600).
-define(NS_SASL, <<"urn:ietf:params:xml:ns:xmpp-sasl">>).

%% As in fast_xml's fxml.hrl, whose application has another name in Debian.
-record(xmlel, {name = <<>> :: binary(),
                attrs = [] :: [{binary(), binary()}],
                children = [] :: list()}).

-type state() :: ejabberd_c2s:state().

%%% Tokens

%% Refuses what <end/> has ended, and what would outlive our memory of that.
-spec is_good_token(map(), binary(), binary()) -> boolean().
is_good_token(Fields, Host, User) ->
    try
        Token = {number(maps:get(<<"iat">>, Fields, 0)), maps:get(<<"sid">>, Fields, <<>>)},
        Remembered = erlang:system_time(second) + pubsub_guarded:option(Host, memory) div 1000,
        Long = number(maps:get(<<"exp">>, Fields)) > Remembered,
        case Long orelse pubsub_ends:has_ended(User, Host, Token) of
            true ->
                Why = case Long of
                          true -> <<"is valid for longer than `memory` says">>;
                          false -> <<"was issued before his sessions were ended">>
                      end,
                pubsub_refusals:log(Host, login, "a token of ~ts@~ts that ~ts",
                                    [pubsub_refusals:cut(User, 100), Host, Why]),
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
    end.

%% He may have been logged out between his password and his session.
-spec session_opened(state()) -> state().
session_opened(#{user := User, lserver := Host, lang := Lang} = State) ->
    case get(?MODULE) of
        {_, _} = Token ->
            case pubsub_ends:has_ended(User, Host, Token) of
                true -> ejabberd_c2s:send(
                          State, xmpp:serr_policy_violation(<<"Logged out">>, Lang));
                false -> pubsub_tidying:later(State)
            end;
        undefined ->
            pubsub_tidying:later(State)
    end.

-spec number(term()) -> float().
number(Number) when is_number(Number) ->
    float(Number).

%%% Guesses, and sessions of an address

-spec auth_result(state(), true | {false, binary()}, binary()) -> state() | {stop, state()}.
auth_result(#{ip := {IP, _}, lserver := Host} = State, Result, User) ->
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
is_uncounted(Host, IP) -> acl:match_rule(Host, pubsub_guarded:option(Host, uncounted), IP).

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
    Now = erlang:system_time(second) div ?GUESSES_SECONDS,
    Table = pubsub_guarded:table(Host),
    case ets:lookup(Table, Key) of
        [{Key, Now, Count}] when More == 0 -> Count;
        [{Key, Now, _}] -> ets:update_counter(Table, Key, {3, More});
        _ when More == 0 -> 0;
        _ -> ets:insert(Table, {Key, Now, More}), More
    end.

%% What ejabberd says to a wrong password, so that a page tries its other key; then the end.
-spec turn_away(state(), binary()) -> state().
turn_away(#{ip := {IP, _}, lserver := Host, lang := Lang} = State, User) ->
    pubsub_refusals:log(Host, login, "~ts@~ts from ~ts, after too many wrong passwords",
                        [pubsub_refusals:cut(User, 100), Host, misc:ip_to_list(IP)]),
    Reason = #xmlel{name = <<"not-authorized">>},
    Failure = #xmlel{name = <<"failure">>, attrs = [{<<"xmlns">>, ?NS_SASL}], children = [Reason]},
    Text = <<"Too many wrong passwords">>,
    ejabberd_c2s:send(xmpp_stream_in:send(State, Failure), xmpp:serr_policy_violation(Text, Lang)).

%% Counts the sessions of an address, from the login on.
-spec count_session(state(), binary()) -> state() | {stop, state()}.
count_session(#{ip := {IP, _}, lserver := Host, lang := Lang} = State, User) ->
    Max = pubsub_guarded:option(Host, max_sessions_per_address),
    Address = address(IP),
    Table = pubsub_guarded:table(Host),
    Counted = {Address, self()},
    ets:insert(Table, {Counted}),
    case count(Address) > Max andalso recount(Address) > Max of
        true ->
            ets:delete(Table, Counted),
            pubsub_refusals:log(Host, login,
                                "the login of ~ts@~ts from ~ts, which has ~p sessions already",
                                [pubsub_refusals:cut(User, 100), Host, misc:ip_to_list(IP), Max]),
            Text = <<"Too many sessions from your address">>,
            {stop, ejabberd_c2s:send(State, xmpp:serr_policy_violation(Text, Lang))};
        false ->
            State
    end.

-spec terminated(state()) -> state().
terminated(#{ip := {IP, _}, lserver := Host} = State) ->
    ets:delete(pubsub_guarded:table(Host), {address(IP), self()}),
    State;
terminated(State) ->
    State.

%% A killed stream leaves its count behind.
-spec forget_past(binary()) -> ok.
forget_past(Host) ->
    forget_streams(Host, '_'),
    Past = erlang:system_time(second) div ?GUESSES_SECONDS,
    ets:select_delete(pubsub_guarded:table(Host),
                      [{{{guesses, '_', '_'}, '$1', '_'}, [{'<', '$1', Past}], [true]}]),
    ok.

-spec count(term()) -> non_neg_integer().
count(Address) ->
    lists:sum([ets:select_count(pubsub_guarded:table(Host), [{{{Address, '_'}}, [], [true]}])
               || Host <- pubsub_guarded:hosts()]).

-spec recount(term()) -> non_neg_integer().
recount(Address) ->
    [forget_streams(Host, Address) || Host <- pubsub_guarded:hosts()],
    count(Address).

-spec forget_streams(binary(), term()) -> ok.
forget_streams(Host, Address) ->
    Table = pubsub_guarded:table(Host),
    Counted = ets:select(Table, [{{{Address, '$1'}}, [], ['$_']}]),
    [ets:delete(Table, Key) || {{_, Pid} = Key} <- Counted, not is_process_alive(Pid)],
    ok.

%% Who has an IPv6 address has all that begin with its first half.
-spec address(inet:ip_address() | local) -> term().
address({0, 0, 0, 0, 0, 16#ffff, High, Low}) ->
    {High bsr 8, High band 255, Low bsr 8, Low band 255};
address({A, B, C, D, _, _, _, _}) ->
    {A, B, C, D, '/64'};
address(IP) ->
    IP.
