%%% Subscriptions that are left in mod_pubsub of sessions that are not there.
%%%
%%% What is subscribed by full JID goes with its session, and what is by bare JID with the last one of
%%% the user, where it is to be forgotten (option `forget_subscriptions`).
%%%
%%% What it relies on, seen with ejabberd 23.01: mod_pubsub keeps each subscription in the Mnesia table
%%% pubsub_state (db_type: mnesia).
%%%
%%% It must not know what a session may ask, nor who asks: it stands below pubsub_publisher, and calls
%%% none but pubsub_guarded.
-module(pubsub_remains).

-export([dead/1, clean/1, remove_of/1]).

-export_type([dead/0]).

-include_lib("kernel/include/logger.hrl").
-include_lib("ejabberd/include/pubsub.hrl").

-type dead() :: {jid:ljid(), mod_pubsub:nodeIdx(), Service :: binary()}.

%% unknown: they are in SQL.
-spec dead(binary()) -> {ok, [dead()]} | unknown.
dead(Host) ->
    dead('$1', Host, '$2').

%% A crash of ejabberd leaves them behind.
-spec clean(binary()) -> ok.
clean(Host) ->
    case dead(Host) of
        {ok, []} -> ok;
        {ok, Dead} ->
            unsubscribe(Dead),
            ?LOG_NOTICE("~ts: removed ~b subscriptions of sessions that are not there",
                        [Host, length(Dead)]);
        unknown -> ok
    end.

%% Those of a session that has just ended.
-spec remove_of(jid:jid()) -> ok.
remove_of(JID) ->
    {User, Host, Resource} = jid:tolower(JID),
    lists:foreach(fun(Each) ->
                          case dead(User, Host, Each) of
                              {ok, Dead} -> unsubscribe(Dead);
                              unknown -> ok
                          end
                  end, [Resource, <<>>]).

%%% Private

-spec dead(binary() | atom(), binary(), binary() | atom()) -> {ok, [dead()]} | unknown.
dead(User, Host, Resource) ->
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
    lists:member(Host, pubsub_guarded:hosts())
        andalso pubsub_guarded:option(Host, forget_subscriptions)
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
