%%% What comes to the own address of mod_pubsub_sessions: events from mod_pubsub, whose subscriber it
%%% is, and the question how many it serves.
%%%
%%% An event comes in the process that publishes.  It is written once, as sessions get it, and goes to
%%% the server that the address names; who publishes has his answer when it has got there.
%%%
%%% It must not know who has subscribed, nor what is asked of mod_pubsub itself (pubsub_requests,
%%% pubsub_owners).  It stands below mod_pubsub_sessions, of which it reads an option, and above
%%% pubsub_cluster and pubsub_stanzas.
-module(pubsub_address).

-export([route/1]).

-define(NS, <<"urn:django-pubsub:sessions:1">>).
-define(NS_CLIENT, <<"jabber:client">>).

%% As in fast_xml's fxml.hrl, whose application has another name in Debian.
-record(xmlel, {name = <<>> :: binary(),
                attrs = [] :: [{binary(), binary()}],
                children = [] :: list()}).

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
    case pubsub_stanzas:event_of([Child || #xmlel{} = Child <- Children]) of
        {ok, Node} ->
            Namespace = {<<"xmlns">>, ?NS_CLIENT},
            Namespaced = El#xmlel{attrs = lists:keystore(<<"xmlns">>, 1, Attrs, Namespace)},
            Event = fxml:element_to_binary(Namespaced),
            pubsub_cluster:event(Service, Erlang, Node, Event);
        none ->
            ok
    end.

status(Service, IQ) ->
    Host = ejabberd_router:host_of_route(Service),
    Access = gen_mod:get_module_opt(Host, mod_pubsub_sessions, access),
    Allowed = acl:match_rule(Host, Access, xmpp:get_from(IQ)),
    Answer = case {xmpp:get_type(IQ), Allowed, pubsub_stanzas:elements(IQ)} of
                 {get, allow, [#xmlel{name = <<"status">>}]} ->
                     xmpp:make_iq_result(IQ, status(Host));
                 {Type, _, _} when Type == result; Type == error ->
                     none;
                 {_, allow, _} ->
                     xmpp:make_error(IQ, xmpp:err_bad_request());
                 _ ->
                     xmpp:make_error(IQ, xmpp:err_forbidden())
             end,
    Answer == none orelse ejabberd_router:route(Answer),
    ok.

status(Host) ->
    Count = fun(Table) -> integer_to_binary(ets:info(Table, size)) end,
    #xmlel{name = <<"status">>,
           attrs = [{<<"xmlns">>, ?NS}, {<<"version">>, <<"1">>},
                    {<<"nodes">>, Count(pubsub_cluster:fanouts(Host))},
                    {<<"subscriptions">>, Count(pubsub_cluster:subscriptions(Host))}]}.
