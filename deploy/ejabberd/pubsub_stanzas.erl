%%% What is read from stanzas of XEP-0060, and written into answers of mod_pubsub.
%%%
%%% It works on what it is given, and nothing else: it asks nobody, keeps nothing, and must not know
%%% what a subscription is to mod_pubsub_sessions.  It stands at the bottom, calls none of the other
%%% rooms, and any of them may call it; those of mod_pubsub_guard do, too.
-module(pubsub_stanzas).

-export([service/1, elements/1, subscriber/1, event_of/1]).
-export([subscription/3, add_children/3, without_children/3]).

-define(NS_PUBSUB_EVENT, <<"http://jabber.org/protocol/pubsub#event">>).
-define(NS_DELAY, <<"urn:xmpp:delay">>).

%% As in fast_xml's fxml.hrl, whose application has another name in Debian.
-record(xmlel, {name = <<>> :: binary(),
                attrs = [] :: [{binary(), binary()}],
                children = [] :: list()}).

-type iq() :: tuple().

-spec service(iq()) -> binary().
service(IQ) ->
    {_, Service, _} = jid:tolower(xmpp:get_to(IQ)),
    Service.

-spec elements(tuple()) -> [#xmlel{}].
elements(Packet) ->
    [El || #xmlel{} = El <- [xmpp:encode(Each) || Each <- xmpp:get_els(Packet)]].

-spec subscriber(#xmlel{}) -> jid:ljid().
subscriber(El) ->
    jid:tolower(jid:decode(fxml:get_tag_attr_s(<<"jid">>, El))).

%% The node of an event.  Of the last item, which has been asked for, there is none.
-spec event_of([#xmlel{}]) -> {ok, Node :: binary()} | none.
event_of(Elements) ->
    case {child(<<"event">>, ?NS_PUBSUB_EVENT, Elements), child(<<"delay">>, ?NS_DELAY, Elements)} of
        {#xmlel{children = [#xmlel{name = Name} = What]}, false} when Name /= <<"subscription">> ->
            {ok, fxml:get_tag_attr_s(<<"node">>, What)};
        _ ->
            none
    end.

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
