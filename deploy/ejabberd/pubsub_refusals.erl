%%% The log of what is refused, which visitors must not fill the disk with.
%%%
%%% A line is short, whatever is quoted in it, and there are only so many of them: of a session in a
%%% minute, and of a host in a while.
%%%
%%% It must not know why something is refused, nor what becomes of it: any of mod_pubsub_guard's rooms
%%% may call it, and it calls none but pubsub_guarded, whose table has the counts.
-module(pubsub_refusals).

-export([log_stanza/2, log/4, quoted/1, cut/2, told/1]).

-include_lib("kernel/include/logger.hrl").

-define(LOG_LINE, 500).             % bytes, and those that ejabberd begins each line with
-define(LOG_SECONDS, 10).
-define(LOG_LINES, 200).            % of one host in so many seconds
-define(LOG_LINES_OF_SESSION, 20).  % in a minute

-type state() :: ejabberd_c2s:state().

%%% Lines

%% What a session has sent, or been answered.
-spec log_stanza(iodata(), state()) -> state().
log_stanza(What, #{jid := JID, ip := {IP, _}, lserver := Host} = State) ->
    Minute = erlang:system_time(second) div 60,
    Count = case maps:get(pubsub_guard_log, State, none) of
                {Minute, Before} -> Before + 1;
                _ -> 1
            end,
    Count =< ?LOG_LINES_OF_SESSION andalso
        log(Host, stanza, "~ts from ~ts~ts: ~ts",
            [cut(jid:encode(JID), 100), misc:ip_to_list(IP),
             [<<" (what follows is not logged)">> || Count == ?LOG_LINES_OF_SESSION], What]),
    State#{pubsub_guard_log => {Minute, Count}}.

%% Never fails: what is refused stays refused.  A crowd at the door does not hide what others do.
-spec log(binary(), login | stanza, string(), list()) -> ok.
log(Host, Kind, Format, Args) ->
    try
        may_log(Host, {log, Kind})
            andalso ?LOG_WARNING("Refused: ~ts", [line(io_lib:format(Format, Args))])
    catch _:_ -> ?LOG_ERROR("Cannot log what was refused at ~ts", [Host])
    end,
    ok.

-spec line(iolist()) -> binary().
line(Text) ->
    cut(unicode:characters_to_binary(Text), ?LOG_LINE).

-spec may_log(binary(), {log, login | stanza}) -> boolean().
may_log(Host, Key) ->
    Now = erlang:system_time(second) div ?LOG_SECONDS,
    Table = pubsub_guarded:table(Host),
    case ets:lookup(Table, Key) of
        [{Key, Now, _}] ->
            ok;
        Past ->
            ets:insert(Table, {Key, Now, 0}),
            [?LOG_WARNING("~ts: ~b more refusals were not logged", [Host, Count - ?LOG_LINES])
             || {_, _, Count} <- Past, Count > ?LOG_LINES]
    end,
    ets:update_counter(Table, Key, {3, 1}) =< ?LOG_LINES.

%%% What stands in them

%% A word of a visitor's, for the log: on one line, and not long.
-spec quoted(binary()) -> iodata().
quoted(Text) ->
    Characters = unicode:characters_to_list(cut(Text, 100)),
    unicode:characters_to_binary(io_lib:format("~0tp", [Characters])).

%% By bytes: one grapheme may have any number of them.  What is no UTF-8 ends there, too.
-spec cut(binary(), pos_integer()) -> binary().
cut(Text, Size) ->
    case unicode:characters_to_binary(binary:part(Text, 0, min(Size, byte_size(Text)))) of
        Text -> Text;
        Whole when is_binary(Whole) -> <<Whole/binary, "…"/utf8>>;
        {_, Whole, _} -> <<Whole/binary, "…"/utf8>>
    end.

%% Why something failed, for the log.
-spec told(term()) -> binary().
told(Failure) ->
    unicode:characters_to_binary(io_lib:format("~0tp", [Failure], [{chars_limit, 300}])).
