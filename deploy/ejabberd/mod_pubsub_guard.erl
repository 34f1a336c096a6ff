%%% Keeps browsers to what django-pubsub's pages need, and ends the sessions of users who have
%%% logged out of Django.  deploy/ejabberd.yml loads it for the hosts of guests and of users, and
%%% says how to install it.
%%%
%%% What it relies on, seen with ejabberd 23.01:
%%% - the hooks user_send_packet, user_receive_packet, c2s_auth_result, c2s_session_opened,
%%%   c2s_terminated, c2s_handle_info and check_decoded_jwt run in the process of the stream that they
%%%   are about;
%%% - ejabberd goes on as if nothing had been said when a hook fails, so what forbids must not fail.
%%%
%%% It has several rooms.  Each calls those that stand below it, and never one above:
%%%
%%%     mod_pubsub_guard   the doors, and the process of a host, which holds its table and cleans up
%%%     pubsub_judge       what a browser may send
%%%     pubsub_logins      who may log in
%%%     pubsub_publisher   what the publisher may ask
%%%     pubsub_remains     subscriptions of sessions that are not there
%%%     pubsub_ends        which tokens have been ended
%%%     pubsub_tidying     the memory of sessions
%%%     pubsub_refusals    the log of what is refused
%%%     pubsub_guarded     the hosts that it is loaded for, their tables and options
%%%     pubsub_stanzas     XML (it is mod_pubsub_sessions's, too)
%%%     pubsub_listeners   whether it is known from where visitors come
%%%
%%% Here it must not be known what is allowed to whom, nor what a table holds.
-module(mod_pubsub_guard).

-behaviour(gen_mod).
-behaviour(gen_server).

-export([start/2, stop/1, reload/3, depends/2, mod_opt_type/1, mod_options/1, mod_doc/0]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, ejabberd_started/0]).
-export([user_send_packet/1, user_receive_packet/1, check_decoded_jwt/5, c2s_auth_result/3,
         c2s_session_opened/1, c2s_handle_info/2, c2s_terminated/2, sm_remove_connection_hook/3]).
-export([decode_iq_subel/1, process_iq/1]).

-include_lib("kernel/include/logger.hrl").

-define(NS, <<"urn:django-pubsub:guard:1">>).

-define(CLEANING, timer:minutes(10)).
-define(ROOMS, [pubsub_judge, pubsub_logins, pubsub_publisher, pubsub_remains, pubsub_ends,
                pubsub_tidying, pubsub_refusals, pubsub_guarded, pubsub_stanzas]).

-type state() :: ejabberd_c2s:state().

%%% gen_mod

-spec start(binary(), gen_mod:opts()) -> {ok, pid()} | {error, term()}.
start(Host, Opts) ->
    %% A hook whose room is missing would fail, and so forbid nothing.
    ok = code:ensure_modules_loaded(?ROOMS),
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
    ets:new(pubsub_guarded:table(Host),
            [named_table, public, ordered_set, {write_concurrency, true}]),
    pubsub_ends:create(),
    [ejabberd_hooks:add(Hook, Host, ?MODULE, Hook, Priority) || {Hook, Priority} <- hooks()],
    gen_iq_handler:add_iq_handler(ejabberd_local, Host, ?NS, ?MODULE, process_iq),
    %% To clean up then: mod_pubsub may start later than we do.
    ejabberd_hooks:add(ejabberd_started, ?MODULE, ejabberd_started, 50),
    {ok, _} = timer:send_interval(?CLEANING, clean),
    {ok, Host}.

handle_call(clean, _From, Host) ->
    {reply, clean_up(Host), Host}.

handle_cast(_Request, Host) ->
    {noreply, Host}.

handle_info(clean, Host) ->
    clean_up(Host),
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
    lists:foreach(fun(Host) ->
                          ok = gen_server:call(pubsub_guarded:table(Host), clean, infinity)
                  end, pubsub_guarded:hosts()).

%% When this process ends its hooks do, too; so it must not fail.
-spec clean_up(binary()) -> ok.
clean_up(Host) ->
    lists:foreach(fun(Step) ->
                          try Step(Host)
                          catch Class:Reason:Trace ->
                              ?LOG_ERROR("Cannot clean up: ~p", [{Class, Reason, Trace}])
                          end
                  end, [fun pubsub_remains:clean/1, fun pubsub_logins:forget_past/1,
                        fun pubsub_ends:forget_past/1]).

%%% In the process of a stream

-spec user_send_packet({tuple() | drop, state()}) ->
          {tuple() | drop, state()} | {stop, {drop, state()}}.
user_send_packet({drop, State}) ->
    {drop, State};
user_send_packet({Packet, State}) ->
    pubsub_judge:judged(Packet, State).

-spec user_receive_packet({tuple() | drop, state()}) -> {tuple() | drop, state()}.
user_receive_packet({Packet, #{lserver := _} = State}) when element(1, Packet) == iq ->
    {Packet, pubsub_judge:log_answer(Packet, State)};
user_receive_packet(Received) ->
    Received.

-spec check_decoded_jwt(boolean(), map(), term(), binary(), binary()) -> boolean().
check_decoded_jwt(true, Fields, _Signature, Host, User) ->
    pubsub_logins:is_good_token(Fields, Host, User);
check_decoded_jwt(Acc, _Fields, _Signature, _Host, _User) ->
    Acc.

-spec c2s_auth_result(state(), true | {false, binary()}, binary()) -> state() | {stop, state()}.
c2s_auth_result(State, Result, User) ->
    pubsub_logins:auth_result(State, Result, User).

-spec c2s_session_opened(state()) -> state().
c2s_session_opened(State) ->
    pubsub_logins:session_opened(State).

-spec c2s_handle_info(state(), term()) -> state() | {stop, state()}.
c2s_handle_info(State, {pubsub_tidying, tidy}) ->
    {stop, pubsub_tidying:tidy(State)};
c2s_handle_info(State, _Info) ->
    State.

-spec c2s_terminated(state(), term()) -> state().
c2s_terminated(State, _Reason) ->
    pubsub_logins:terminated(State).

-spec sm_remove_connection_hook(ejabberd_sm:sid(), jid:jid(), ejabberd_sm:info()) -> ok.
sm_remove_connection_hook(_SID, JID, _Info) ->
    pubsub_remains:remove_of(JID).

%%% In the process of whoever asks

-spec decode_iq_subel(El) -> El when El :: tuple().
decode_iq_subel(El) ->
    El.  % xmpp does not know our namespace

-spec process_iq(tuple()) -> tuple() | ignore.
process_iq(IQ) ->
    pubsub_publisher:process_iq(IQ).
