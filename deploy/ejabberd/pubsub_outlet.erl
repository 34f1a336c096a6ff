%%% How an event is written to a session, and what to do with one that does not read.
%%%
%%% All that mod_pubsub_sessions knows of ejabberd's transports is here.  What it relies on, seen with
%%% ejabberd 23.01:
%%% - the state of a session's process holds its socket, which holds {http_ws, Pid, _} or
%%%   {http_bind, Pid, _}, where Pid is a state machine;
%%% - that of a WebSocket holds {#ws{}, Pid}, where Pid is the process of the socket, which writes
%%%   {text, Binary} as one frame, and answers {text_with_reply, Binary, Sender} when it has written;
%%% - whoever knows a TCP socket of Erlang's may write to it, between the frames of that process;
%%% - a BOSH session takes {send_xml, {xmlstreamraw, Binary}}, and nobody need wait for its answer.
-module(pubsub_outlet).

-export([of_stream/1, prepare/2, nobody/0, write/2, write_behind/2, settle/0, beyond/3, cut/4,
         not_read/2]).

-export_type([target/0, events/0, limits/0]).

-include_lib("kernel/include/logger.hrl").
-include_lib("ejabberd/include/ejabberd_http.hrl").

-define(END_LIMIT, timer:seconds(3)).

%% A WebSocket whose socket we can write to, or only its process can (TLS); a BOSH session; or a
%% stream over TCP, which its own process writes.
-type target() :: {socket, pid(), port()} | {websocket | bosh | stream, pid()}.

%% Some events, as each kind of target takes them.
-type events() :: #{socket | websocket | bosh | stream := term()}.

-type limits() :: #{messages := pos_integer(), bytes := pos_integer()}.

%% For the process of a session.
-spec of_stream(ejabberd_c2s:state()) -> target().
of_stream(#{socket := Socket}) ->
    case [Each || {Kind, _, _} = Each <- tuple_to_list(Socket),
                  Kind == http_ws orelse Kind == http_bind] of
        [{http_ws, Machine, _}] -> of_websocket(Machine);
        [{http_bind, Machine, _}] -> {bosh, Machine};
        [] -> {stream, self()}
    end.

-spec of_websocket(pid()) -> target().
of_websocket(Machine) ->
    try [Each || Part <- sys:get_state(Machine), is_tuple(Part),
                 {#ws{}, _} = Each <- tuple_to_list(Part)] of
        [{#ws{sockmod = gen_tcp, socket = Socket}, Writer}] when is_port(Socket) ->
            {socket, Writer, Socket};
        [{#ws{}, Writer}] ->
            {websocket, Writer};
        [] ->
            lost("no socket")
    catch
        Class:Reason -> lost({Class, Reason})
    end.

%% It works, and slower; who administers ejabberd wants to know.
-spec lost(term()) -> target().
lost(Why) ->
    ?LOG_ERROR("A WebSocket is written to by the long way: ~0p", [Why]),
    {stream, self()}.

%% Each form is made once, however many sessions there are.
-spec prepare([binary()], pid()) -> events().
prepare(Events, Nobody) ->
    All = iolist_to_binary(Events),
    #{socket => iolist_to_binary([frame(Event) || Event <- Events]),
      websocket => [{text, Event} || Event <- Events],
      bosh => [{'$gen_sync_all_state_event', {Nobody, ?MODULE}, {send_xml, {xmlstreamraw, All}}}],
      stream => [{?MODULE, send, Event} || Event <- Events]}.

%% RFC 6455 5.2: a whole message of text, not masked.
-spec frame(binary()) -> iodata().
frame(Event) when byte_size(Event) < 126 ->
    [<<16#81, (byte_size(Event))>>, Event];
frame(Event) when byte_size(Event) < 65536 ->
    [<<16#81, 126, (byte_size(Event)):16>>, Event];
frame(Event) ->
    [<<16#81, 127, (byte_size(Event)):64>>, Event].

%% Whoever is dead: what is answered to him costs nothing.
-spec nobody() -> pid().
nobody() ->
    {Nobody, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, _, _, _} -> Nobody end.

%% busy: nothing was written, since there is no room for it.
-spec write(target(), events()) -> ok | busy.
write({socket, _, Socket}, #{socket := Frames}) ->
    try erlang:port_command(Socket, Frames, [nosuspend]) of
        true -> ok;
        false -> busy
    catch
        error:badarg -> ok  % it has been closed, and its session is about to end
    end;
write({Kind, Pid}, Events) ->
    lists:foreach(fun(Message) -> Pid ! Message end, map_get(Kind, Events)).

%% Let the process of the socket write it when it can; it answers {text_reply, Pid} then.
-spec write_behind(target(), binary()) -> ok.
write_behind({socket, Writer, _}, Event) ->
    Writer ! {text_with_reply, Event, self()},
    ok.

%% What sockets have answered to who has written to them.
-spec settle() -> ok.
settle() ->
    receive {inet_reply, _, _} -> settle()
    after 0 -> ok
    end.

%% How many messages wait for a process to write them, and their bytes, if that is too much: in its
%% queue, where the latest events are.  (Nobody can ask for the size of those.)  A BOSH session has
%% them in its state, those that went together as one, and is asked what it refers to; at first that
%% may be rubbish.
-spec beyond(target(), LatestSizes :: [non_neg_integer()], limits()) ->
          {Messages :: non_neg_integer(), Bytes :: non_neg_integer()} | no.
beyond({socket, _, _}, _Sizes, _Limits) ->
    no;  % it is known what has been written
beyond({bosh, Pid}, _Sizes, Limits) ->
    case beyond(referred(Pid), Limits) of
        no ->
            no;
        _ ->
            garbage_collect(Pid),
            beyond(referred(Pid), Limits)
    end;
beyond({_, Pid}, Sizes, Limits) ->
    case process_info(Pid, message_queue_len) of
        {message_queue_len, Queued} when Queued > length(Sizes) ->
            beyond(lists:duplicate(Queued - length(Sizes), 0) ++ Sizes, Limits);
        {message_queue_len, Queued} ->
            beyond(lists:sublist(Sizes, Queued), Limits);
        undefined ->
            no
    end.

-spec beyond([non_neg_integer()], limits()) -> {non_neg_integer(), non_neg_integer()} | no.
beyond(Sizes, #{messages := MaxMessages, bytes := MaxBytes}) ->
    case {length(Sizes), lists:sum(Sizes)} of
        {Messages, Bytes} when Messages > MaxMessages; Bytes > MaxBytes -> {Messages, Bytes};
        _ -> no
    end.

%% The sizes of the binaries that a process refers to; each as often as it does.
-spec referred(pid()) -> [non_neg_integer()].
referred(Pid) ->
    case process_info(Pid, binary) of
        {binary, Binaries} -> [Size || {_, Size, _} <- Binaries];
        undefined -> []
    end.

%% End a session.  It may come again, and ask for what it has missed.
-spec cut(pid(), jid:ljid(), target(), Why :: iodata()) -> ok.
cut(Session, JID, Target, Why) ->
    ?LOG_WARNING("Disconnecting ~ts, ~ts", [jid:encode(JID), Why]),
    %% The process of a socket may be writing, for as long as it takes.
    case Target of
        {socket, Writer, _} -> exit(Writer, kill);
        {websocket, Writer} -> exit(Writer, kill);
        _ -> ok
    end,
    spawn(fun() ->
                  Monitor = monitor(process, Session),
                  ejabberd_c2s:stop_async(Session),
                  receive {'DOWN', Monitor, _, _, _} -> ok
                  after ?END_LIMIT -> exit(Session, kill)
                  end
          end),
    ok.

-spec not_read(non_neg_integer(), non_neg_integer()) -> iodata().
not_read(Messages, Bytes) ->
    io_lib:format("which does not read: ~b messages of ~b bytes are waiting", [Messages, Bytes]).
