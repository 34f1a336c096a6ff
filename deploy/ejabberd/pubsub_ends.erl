%%% What the publisher has ended: the tokens of which users are refused, and of which sessions in Django.
%%%
%%% It stands in the Mnesia table pubsub_guard_end, which only this module reads and writes.
%%%
%%% It must not know what a token looks like, nor what else ends with it: it stands below pubsub_logins
%%% and pubsub_publisher, and calls none but pubsub_guarded.
-module(pubsub_ends).

-export([create/0, has_ended/3, note/4, forget_past/1]).

%% What has been said by <end/>: tokens of a user, or those of one session of his in Django (none is
%% <<>>), that were issued at a time or before it are refused.  (The atoms are for patterns.)
-record(pubsub_guard_end, {key :: {binary() | '$1', binary(), binary() | '$2'},
                           before :: float() | all | '_',
                           at :: integer() | '$3'}).

-spec create() -> {atomic, ok} | {aborted, term()}.
create() ->
    ejabberd_mnesia:create(?MODULE, pubsub_guard_end,
                           [{disc_copies, [node()]},
                            {attributes, record_info(fields, pubsub_guard_end)}]).

%% Of a token that was issued at a time, in seconds, and for a session in Django (none is <<>>).
-spec has_ended(binary(), binary(), {float(), binary()}) -> boolean().
has_ended(User, Host, {IssuedAt, Session}) ->
    Keys = lists:usort([{User, Host, <<>>}, {User, Host, Session}]),
    lists:any(fun(#pubsub_guard_end{before = all}) -> true;
                 (#pubsub_guard_end{before = Before}) -> IssuedAt =< Before
              end,
              lists:flatmap(fun(Key) -> mnesia:dirty_read(pubsub_guard_end, Key) end, Keys)).

%% On the disc before it returns.
-spec note(binary(), binary(), binary(), float() | all) -> ok.
note(User, Host, Session, Before) ->
    Key = {User, Host, Session},
    {atomic, ok} =
        mnesia:sync_transaction(
          fun() ->
                  Latest = case mnesia:read(pubsub_guard_end, Key, write) of
                               [#pubsub_guard_end{before = Known}] -> max(Known, Before);
                               [] -> Before
                           end,
                  mnesia:write(#pubsub_guard_end{key = Key, before = Latest,
                                                 at = erlang:system_time(second)})
          end),
    ok = mnesia:sync_log().  % or a crash within two seconds would take it

%% What is older than any token that is still valid (option `memory`).
-spec forget_past(binary()) -> ok.
forget_past(Host) ->
    Forgotten = erlang:system_time(second) - pubsub_guarded:option(Host, memory) div 1000,
    Old = mnesia:dirty_select(
            pubsub_guard_end,
            [{#pubsub_guard_end{key = {'$1', Host, '$2'}, at = '$3', before = '_'},
              [{'<', '$3', Forgotten}], [{{'$1', Host, '$2'}}]}]),
    lists:foreach(fun(Key) -> mnesia:dirty_delete(pubsub_guard_end, Key) end, Old).
