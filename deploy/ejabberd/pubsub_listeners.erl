%%% Whether ejabberd believes the right ones of what they say of a visitor's address.
%%%
%%% nginx says in X-Forwarded-For from where a visitor comes.  ejabberd 23.01 believes all who reach an
%%% HTTP listener (trusted_proxies: all), or those who come from certain addresses; who comes by a unix
%%% socket has none.  So with `all` no HTTP port may be open to other machines, and with addresses there
%%% may be no socket, or all its visitors would be one.
%%%
%%% ejabberd does not start with anything else, and a listener that a reload makes wrong is closed.
%%% mod_pubsub_guard calls this; it knows nothing of that module.
-module(pubsub_listeners).

-export([check/0, config_reloaded/0]).

-include_lib("kernel/include/logger.hrl").

-spec check() -> ok | {error, wrong_listeners}.
check() ->
    ejabberd_hooks:add(config_reloaded, ?MODULE, config_reloaded, 55),  % after ejabberd_listener
    case wrong() of
        [] -> ok;
        _ -> {error, wrong_listeners}
    end.

-spec config_reloaded() -> ok.
config_reloaded() ->
    lists:foreach(fun(EndPoint) -> ejabberd_listener:delete_listener(EndPoint, ejabberd_http) end, wrong()).

-spec wrong() -> [ejabberd_listener:endpoint()].
wrong() ->
    EndPoints = [EndPoint || {EndPoint, ejabberd_http, _} <- ejabberd_option:listen()],
    Proxies = ejabberd_option:trusted_proxies(),
    [EndPoint || EndPoint <- EndPoints, Why <- why(Proxies, EndPoint), tell(EndPoint, Why)].

why(all, {Port, IP, tcp}) when is_integer(Port) ->
    ["trusted_proxies is `all`, so whoever reaches it from another machine chooses the address that he "
     "seems to come from. Listen on loopback (ip: \"127.0.0.1\"); or, where nginx runs on another machine, "
     "say which (trusted_proxies: [192.0.2.1]), and take unix sockets out of `listen`"
     || not is_loopback(IP)];
why(Proxies, {<<"unix:", _/binary>>, _, tcp}) when Proxies /= all ->
    ["trusted_proxies names addresses, and who comes by a unix socket has none, so all visitors would be "
     "one. Take the socket out of `listen`, or say trusted_proxies: all"];
why(_Proxies, _EndPoint) ->
    [].

is_loopback({127, _, _, _}) -> true;
is_loopback({0, 0, 0, 0, 0, 16#ffff, High, _}) -> High bsr 8 == 127;
is_loopback(IP) -> IP == {0, 0, 0, 0, 0, 0, 0, 1}.

-spec tell(ejabberd_listener:endpoint(), string()) -> true.
tell({Port, _, _}, Why) when is_integer(Port) ->
    ?LOG_CRITICAL("The HTTP listener at port ~b: ~ts", [Port, Why]),
    true;
tell({Socket, _, _}, Why) ->
    ?LOG_CRITICAL("The HTTP listener at ~ts: ~ts", [Socket, Why]),
    true.
