%%% mod_pubsub, as mod_pubsub_sessions sees it: its nodes, its answers, and its rows of subscriptions.
%%%
%%% Only here is mod_pubsub asked anything while the module runs, and only here are its tables read and
%%% written.  A session's subscription stands in pubsub_state for as long as mod_pubsub has to know of
%%% it, and then it is forgotten there; the module's own stands there all the time.
%%%
%%% It must not know what sessions, fan-outs and requests are, nor who wants something: it stands at
%%% the bottom, calls none of the other rooms, and any of them may call it.
-module(pubsub_rows).

-export([ask/3, node/2, node_action/4, is_alive/3, is_for_all/1]).
-export([has_state/2, taken_over/2, taken_back/2, write_state/3, forget_state/2, forget_own/1]).
-export([address/1, own/1, all_own/1]).

-export_type([key/0]).

-include_lib("ejabberd/include/pubsub.hrl").

%% A node of mod_pubsub's.  (Its name may be another's before all has ended that it was.)
-type key() :: {Service :: binary(), Node :: binary(), mod_pubsub:nodeIdx()}.
-type iq() :: tuple().

%%% Its nodes, and what is asked of it

-spec ask(process_pubsub | process_pubsub_owner | process_disco_info, iq(), tuple()) -> iq().
ask(Function, IQ, Request) ->
    mod_pubsub:Function(xmpp:set_els(IQ, [Request])).

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

%% Whether events go to each subscriber, whatever else is known of him.
-spec is_for_all(list()) -> boolean().
is_for_all(Options) ->
    not proplists:get_value(presence_based_delivery, Options, false)
        andalso not proplists:get_value(broadcast_all_resources, Options, false).

%%% Its rows: who has subscribed

-spec has_state(jid:ljid(), mod_pubsub:nodeIdx()) -> boolean().
has_state(JID, Index) ->
    mnesia:dirty_read(pubsub_state, {JID, Index}) /= [].

%% Takes a subscription over.  no: mod_pubsub has not subscribed it, or it is to wait, or has been
%% taken away already.
-spec taken_over(jid:ljid(), mod_pubsub:nodeIdx()) -> {ok, SubId :: binary()} | no.
taken_over(JID, Index) ->
    case mnesia:dirty_read(pubsub_state, {JID, Index}) of
        [#pubsub_state{subscriptions = [{subscribed, SubId}]}] ->
            forget_state(JID, Index),
            {ok, SubId};
        _ ->
            no
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

%%% The module as its subscriber

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
