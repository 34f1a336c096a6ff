%%% The hosts that mod_pubsub_guard is loaded for: the name of each one's table, its options, and who its
%%% publisher is.
%%%
%%% It must not know what is in a table, nor what an option is for: it stands at the bottom, calls none
%%% of the other rooms, and any of them may call it.  Of mod_pubsub_guard, which is on top, it knows
%%% nothing but the name.
-module(pubsub_guarded).

-export([table/1, hosts/0, option/2, is_publisher/2]).

%% Also the name of the host's process.
-spec table(binary()) -> atom().
table(Host) ->
    gen_mod:get_module_proc(Host, mod_pubsub_guard).

-spec hosts() -> [binary()].
hosts() ->
    [Host || Host <- ejabberd_option:hosts(), ets:whereis(table(Host)) =/= undefined].

-spec option(binary(), atom()) -> term().
option(Host, Name) ->
    gen_mod:get_module_opt(Host, mod_pubsub_guard, Name).

-spec is_publisher(binary(), jid:jid()) -> boolean().
is_publisher(Host, JID) ->
    acl:match_rule(Host, option(Host, access), JID) == allow.
