%%% What the publisher may ask of mod_pubsub_guard: how it is, and to end sessions of a user.
%%%
%%% It runs in the process of whoever asks; what takes a while has one of its own.
%%%
%%% It must not know what browsers may do (pubsub_judge), nor how a token is refused (pubsub_logins): it
%%% stands below mod_pubsub_guard, and above pubsub_ends, pubsub_remains, pubsub_refusals,
%%% pubsub_guarded and pubsub_stanzas.
-module(pubsub_publisher).

-export([process_iq/1]).

-include_lib("kernel/include/logger.hrl").

-define(NS, <<"urn:django-pubsub:guard:1">>).
-define(END_LIMIT, timer:seconds(3)).

%% As in fast_xml's fxml.hrl, whose application has another name in Debian.
-record(xmlel, {name = <<>> :: binary(),
                attrs = [] :: [{binary(), binary()}],
                children = [] :: list()}).

-spec process_iq(tuple()) -> tuple() | ignore.
process_iq(IQ) ->
    From = xmpp:get_from(IQ),
    {_, Host, _} = jid:tolower(xmpp:get_to(IQ)),
    [El] = pubsub_stanzas:elements(IQ),
    case pubsub_guarded:is_publisher(Host, From) andalso {xmpp:get_type(IQ), El} of
        false ->
            pubsub_refusals:log(Host, stanza, "~ts of ~ts, who is not the publisher",
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
    pubsub_ends:note(User, Host, Session, Before),
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
    Dead = case [pubsub_remains:dead(Each) || Each <- ejabberd_option:hosts()] of
               [unknown | _] -> [];
               Found -> [{<<"dead">>,
                          integer_to_binary(lists:sum([length(List) || {ok, List} <- Found]))}]
           end,
    Time = float_to_binary(erlang:system_time(microsecond) / 1.0e6, [{decimals, 6}]),
    #xmlel{name = <<"status">>,
           attrs = [{<<"xmlns">>, ?NS}, {<<"version">>, <<"1">>}, {<<"time">>, Time},
                    {<<"db">>, atom_to_binary(db_type(Host))} | Dead]}.

-spec db_type(binary()) -> atom().
db_type(Host) ->
    try mod_pubsub_opt:db_type(ejabberd_router:host_of_route(pubsub_guarded:option(Host, service)))
    catch _:_ -> none
    end.

-spec seconds(binary()) -> float() | error.
seconds(Text) ->
    try binary_to_float(Text)
    catch error:badarg ->
            try float(binary_to_integer(Text))
            catch error:badarg -> error
            end
    end.
