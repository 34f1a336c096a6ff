%%% The sessions that have subscribed to one node of mod_pubsub, and what is sent to them.
%%%
%%% One process for each node that has such subscribers, so events of a node leave it in the order in
%%% which they came, and nodes do not wait for each other.  An event is one binary, which all sessions
%%% share; to hand it to a session is one message to the process that writes on its socket.
%%%
%%% It knows nothing of mod_pubsub: mod_pubsub_sessions says who joins, and calls with each event.
%%%
%%% Events and answers of mod_pubsub come to a session by different ways, so a session *holds* its
%%% events while it is being answered: they wait here until it has said that the answer is written.
%%% And while it reads what the answer will be no event is handed out to anybody: those from before
%%% are in the answer, and those that come after it are news.  (Who publishes waits; an event never
%%% waits for those who begin to read after it.)
%%%
%%% What it relies on, seen with ejabberd 23.01:
%%% - the process of a WebSocket's socket writes {text, Binary} as one frame (ejabberd_websocket);
%%% - the process of a BOSH session takes {send_xml, {xmlstreamraw, Binary}}, which nobody need wait
%%%   for (ejabberd_bosh, p1_fsm).
-module(pubsub_fanout).

-behaviour(gen_server).

-export([start_link/1, join/3, confirm/2, leave/1, hold/1, known/1, release/1, event/2, drop/2,
         members/1, end_if_idle/1, stop/1, limit/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([target/0, limits/0]).

-include_lib("kernel/include/logger.hrl").

-define(IDLE, timer:seconds(60)).   % without a member; then it asks to end
-define(SWEEP_EVENTS, 200).         % so often is looked who does not read
-define(SWEEP_BYTES, 1000000).
-define(END_LIMIT, timer:seconds(3)).

%% How a session is written to: by the process of its WebSocket's socket, by that of its BOSH session,
%% or by its stream's own (TCP).
-type target() :: {websocket | bosh | stream, pid()}.
-type limits() :: #{messages := pos_integer(), bytes := pos_integer()}.

-record(member, {jid :: jid:ljid(),
                 subid = <<>> :: binary(),           % until it is confirmed
                 target :: target(),
                 monitor :: reference(),
                 holds = 0 :: non_neg_integer(),
                 waiting = [] :: [binary()],         % the latest first
                 messages = 0 :: non_neg_integer(),  % that wait, and what they weigh
                 bytes = 0 :: non_neg_integer()}).

-record(state, {key :: term(),
                owner :: pid(),
                table :: ets:tid() | atom(),
                limits :: limits(),
                idle :: timeout(),
                members = #{} :: #{pid() => #member{}},
                ready = #{} :: #{pid() => target()},  % those who hold nothing
                readers = #{} :: #{pid() => true},
                queue = queue:new() :: queue:queue(), % who waits for readers, or for such an event
                nobody :: pid(),
                sizes = [] :: [non_neg_integer()],    % of the latest events, in bytes
                sweeper = none :: none | reference(),
                events = 0 :: non_neg_integer(),      % since the last sweep
                bytes = 0 :: non_neg_integer()}).

%%% What others call

%% key names the node; owner is asked to end it when it is idle; each member is {{JID, key}, SubId,
%% Pid} in the table, which is public and may belong to many.
-spec start_link(#{key := term(), owner := pid(), table := ets:tid() | atom(),
                   limits := limits(), idle => timeout()}) -> {ok, pid()} | {error, term()}.
start_link(Options) ->
    gen_server:start_link(?MODULE, Options, []).

%% The session in whose process this is called joins.  It is to read, and holds what comes.
-spec join(pid(), jid:ljid(), target()) -> ok.
join(Fanout, JID, Target) ->
    gen_server:call(Fanout, {join, JID, Target}, infinity).

%% It is a subscriber, and knows what it has read; it holds what comes until release().  gone:
%% somebody has taken it away meanwhile.
-spec confirm(pid(), SubId :: binary()) -> ok | gone.
confirm(Fanout, SubId) ->
    gen_server:call(Fanout, {confirm, SubId}, infinity).

-spec leave(pid()) -> ok.
leave(Fanout) ->
    gen_server:call(Fanout, leave, infinity).

%% Keep the caller's events back from now on.  It is to read.
-spec hold(pid()) -> ok.
hold(Fanout) ->
    gen_server:call(Fanout, hold, infinity).

%% It has read.
-spec known(pid()) -> ok.
known(Fanout) ->
    gen_server:cast(Fanout, {known, self()}).

%% It has written: let its events go; as often as it held them.
-spec release(pid()) -> ok.
release(Fanout) ->
    gen_server:cast(Fanout, {release, self()}).

%% Hand an event to all.  When this returns it stands in the queue of each.
-spec event(pid(), binary()) -> ok.
event(Fanout, Event) ->
    gen_server:call(Fanout, {event, Event}, infinity).

%% Take sessions away; each is told {pubsub_fanout, ended, Key, Fanout}.
-spec drop(pid(), [jid:ljid()]) -> ok.
drop(Fanout, JIDs) ->
    gen_server:call(Fanout, {drop, JIDs}, infinity).

-spec members(pid()) -> [{jid:ljid(), SubId :: binary()}].
members(Fanout) ->
    gen_server:call(Fanout, members, infinity).

-spec end_if_idle(pid()) -> ended | busy.
end_if_idle(Fanout) ->
    gen_server:call(Fanout, end_if_idle, infinity).

%% End it, because its node has gone; its members are told as by drop().
-spec stop(pid()) -> ok.
stop(Fanout) ->
    gen_server:call(Fanout, stop, infinity).

-spec limit(pid(), limits()) -> ok.
limit(Fanout, Limits) ->
    gen_server:cast(Fanout, {limit, Limits}).

%%% The process

init(#{key := Key, owner := Owner, table := Table, limits := Limits} = Options) ->
    process_flag(trap_exit, true),
    %% Whoever is dead is nobody: what is answered to him costs nothing.
    {Nobody, Monitor} = spawn_monitor(fun() -> ok end),
    receive {'DOWN', Monitor, _, _, _} -> ok end,
    Idle = maps:get(idle, Options, ?IDLE),
    {ok, #state{key = Key, owner = Owner, table = Table, limits = Limits, idle = Idle,
                nobody = Nobody}, Idle}.

handle_call({event, _} = Event, From, State) ->
    take_turn(Event, From, State);
handle_call({join, _, _} = Join, From, State) ->
    take_turn(Join, From, State);
handle_call(hold, From, State) ->
    take_turn(hold, From, State);
handle_call({confirm, SubId}, {Session, _}, #state{members = Members} = State) ->
    case Members of
        #{Session := Member} ->
            Confirmed = Member#member{subid = SubId},
            note(Confirmed, State),
            reply(ok, has_read(Session, State#state{members = Members#{Session := Confirmed}}));
        _ ->
            reply(gone, State)
    end;
handle_call(leave, {Session, _}, State) ->
    reply(ok, remove(Session, State));
handle_call({drop, JIDs}, _From, #state{members = Members} = State) ->
    Dropped = [Session || {Session, #member{jid = JID}} <- maps:to_list(Members),
                          lists:member(JID, JIDs)],
    tell_ended(Dropped, State),
    reply(ok, lists:foldl(fun remove/2, State, Dropped));
handle_call(members, _From, #state{members = Members} = State) ->
    reply([{JID, SubId} || #member{jid = JID, subid = SubId} <- maps:values(Members)], State);
handle_call(end_if_idle, _From, #state{members = Members} = State) when map_size(Members) == 0 ->
    {stop, normal, ended, State};
handle_call(end_if_idle, _From, State) ->
    reply(busy, State);
handle_call(stop, _From, #state{members = Members} = State) ->
    tell_ended(maps:keys(Members), State),
    {stop, normal, ok, State}.

handle_cast({known, Session}, State) ->
    noreply(has_read(Session, State));
handle_cast({release, Session}, #state{members = Members, ready = Ready} = State) ->
    case Members of
        #{Session := #member{holds = 1, target = Target, waiting = Waiting} = Member} ->
            lists:foreach(fun(Event) -> send(Target, message(Event, Target, State)) end,
                          lists:reverse(Waiting)),
            Released = Member#member{holds = 0, waiting = [], messages = 0, bytes = 0},
            noreply(State#state{members = Members#{Session := Released},
                                ready = Ready#{Session => Target}});
        #{Session := #member{holds = Holds} = Member} when Holds > 1 ->
            noreply(State#state{members = Members#{Session := Member#member{holds = Holds - 1}}});
        _ ->
            noreply(State)
    end;
handle_cast({limit, Limits}, State) ->
    noreply(State#state{limits = Limits}).

handle_info({'DOWN', Sweeper, process, _, _}, #state{sweeper = Sweeper} = State) ->
    noreply(State#state{sweeper = none});
handle_info({'DOWN', _, process, Session, _}, State) ->
    noreply(remove(Session, State));
handle_info({'EXIT', Owner, Reason}, #state{owner = Owner} = State) ->
    {stop, Reason, State};
handle_info(timeout, #state{key = Key, owner = Owner} = State) ->
    Owner ! {?MODULE, idle, Key, self()},
    noreply(State);
handle_info(_Info, State) ->
    noreply(State).

terminate(_Reason, #state{table = Table, key = Key, members = Members}) ->
    try [ets:delete(Table, {JID, Key}) || #member{jid = JID} <- maps:values(Members)]
    catch error:badarg -> ok  % the table has gone first
    end,
    ok.

%%% Private

reply(Reply, #state{members = Members, idle = Idle} = State) when map_size(Members) == 0 ->
    {reply, Reply, State, Idle};
reply(Reply, State) ->
    {reply, Reply, State}.

noreply(#state{members = Members, idle = Idle} = State) when map_size(Members) == 0 ->
    {noreply, State, Idle};
noreply(State) ->
    {noreply, State}.

%%% Readers and events take turns

take_turn(What, {Process, _} = From, #state{readers = Readers, queue = Queue} = State) ->
    %% Who reads and publishes at once would wait for itself.
    case is_map_key(Process, Readers) orelse queue:is_empty(Queue) andalso may(What, State) of
        true -> noreply(do(What, From, State));
        false -> noreply(State#state{queue = queue:in({What, From}, Queue)})
    end.

may({event, _}, #state{readers = Readers}) -> map_size(Readers) == 0;
may(_Read, _State) -> true.

do({event, Event}, From, State) ->
    Dispatched = dispatch(Event, State),
    gen_server:reply(From, ok),
    sweep(Dispatched, byte_size(Event));
do({join, JID, Target}, {Session, _} = From, State) ->
    #state{members = Members, readers = Readers} = Others = remove(Session, State),
    Member = #member{jid = JID, target = Target, holds = 1, monitor = monitor(process, Session)},
    note(Member, State),
    gen_server:reply(From, ok),
    Others#state{members = Members#{Session => Member}, readers = Readers#{Session => true}};
do(hold, {Session, _} = From, #state{members = Members, ready = Ready, readers = Readers} = State) ->
    gen_server:reply(From, ok),
    case Members of
        #{Session := #member{holds = Holds} = Member} ->
            State#state{members = Members#{Session := Member#member{holds = Holds + 1}},
                        ready = maps:remove(Session, Ready),
                        readers = Readers#{Session => true}};
        _ ->
            State
    end.

has_read(Session, #state{readers = Readers} = State) ->
    go_on(State#state{readers = maps:remove(Session, Readers)}).

go_on(#state{queue = Queue} = State) ->
    case queue:out(Queue) of
        {{value, {What, From}}, Others} ->
            case may(What, State) of
                true -> go_on(do(What, From, State#state{queue = Others}));
                false -> State
            end;
        {empty, _} ->
            State
    end.

-spec note(#member{}, #state{}) -> true.
note(#member{jid = JID, subid = SubId}, #state{table = Table, key = Key}) ->
    ets:insert(Table, {{JID, Key}, SubId, self()}).

-spec remove(pid(), #state{}) -> #state{}.
remove(Session, #state{members = Members, ready = Ready, table = Table, key = Key} = State) ->
    case maps:take(Session, Members) of
        {#member{jid = JID, monitor = Monitor}, Others} ->
            demonitor(Monitor, [flush]),
            ets:delete(Table, {JID, Key}),
            has_read(Session, State#state{members = Others, ready = maps:remove(Session, Ready)});
        error ->
            State
    end.

-spec tell_ended([pid()], #state{}) -> ok.
tell_ended(Sessions, #state{key = Key}) ->
    lists:foreach(fun(Session) -> Session ! {?MODULE, ended, Key, self()} end, Sessions).

%% The messages are made once.
-spec dispatch(binary(), #state{}) -> #state{}.
dispatch(Event, #state{ready = Ready, members = Members} = State) ->
    Text = message(Event, {websocket, self()}, State),
    Raw = message(Event, {bosh, self()}, State),
    Stream = message(Event, {stream, self()}, State),
    maps:foreach(fun(_, {websocket, Pid}) -> Pid ! Text;
                    (_, {bosh, Pid}) -> Pid ! Raw;
                    (_, {stream, Pid}) -> Pid ! Stream
                 end, Ready),
    case map_size(Ready) == map_size(Members) of
        true ->
            State;
        false ->
            Holding = maps:filter(fun(_, #member{holds = Holds}) -> Holds > 0 end, Members),
            maps:fold(fun(Session, Member, Acc) -> keep(Event, Session, Member, Acc) end,
                      State, Holding)
    end.

-spec message(binary(), target(), #state{}) -> term().
message(Event, {websocket, _}, _State) ->
    {text, Event};
message(Event, {bosh, _}, #state{nobody = Nobody}) ->
    {'$gen_sync_all_state_event', {Nobody, ?MODULE}, {send_xml, {xmlstreamraw, Event}}};
message(Event, {stream, _}, _State) ->
    {?MODULE, send, Event}.

-spec send(target(), term()) -> term().
send({_, Pid}, Message) ->
    Pid ! Message.

-spec keep(binary(), pid(), #member{}, #state{}) -> #state{}.
keep(Event, Session, #member{waiting = Waiting, messages = Messages, bytes = Bytes} = Member,
     #state{members = Members, limits = #{messages := MaxMessages, bytes := MaxBytes}} = State) ->
    Kept = Member#member{waiting = [Event | Waiting], messages = Messages + 1,
                         bytes = Bytes + byte_size(Event)},
    case Kept of
        #member{messages = M, bytes = B} when M > MaxMessages; B > MaxBytes ->
            cut(Session, Kept, M, B),
            remove(Session, State);
        _ ->
            State#state{members = Members#{Session := Kept}}
    end.

%%% Who does not read

%% Looked at by another process, because that may have to wait for those whom it looks at.
-spec sweep(#state{}, non_neg_integer()) -> #state{}.
sweep(#state{sizes = Sizes, events = Events, bytes = Bytes} = State, Size)
  when Events + 1 < ?SWEEP_EVENTS, Bytes + Size < ?SWEEP_BYTES ->
    State#state{sizes = [Size | Sizes], events = Events + 1, bytes = Bytes + Size};
sweep(#state{sweeper = none, members = Members, sizes = Sizes, limits = Limits} = State, Size) ->
    Latest = lists:sublist([Size | Sizes], maps:get(messages, Limits) + 1),
    {_, Sweeper} = spawn_monitor(
                     fun() ->
                             maps:foreach(fun(Session, Member) ->
                                                  look(Session, Member, Latest, Limits)
                                          end, Members)
                     end),
    State#state{sweeper = Sweeper, sizes = Latest, events = 0, bytes = 0};
sweep(#state{sizes = Sizes} = State, Size) ->
    State#state{sizes = [Size | Sizes]}.

-spec look(pid(), #member{}, [non_neg_integer()], limits()) -> ok.
look(Session, #member{target = Target} = Member, Sizes, Limits) ->
    case behind(Target, Sizes, Limits) of
        {Messages, Bytes} -> cut(Session, Member, Messages, Bytes);
        no -> ok
    end.

%% What waits for a process to write it, if that is too much: in its queue, where the latest events
%% are.  (Nobody can ask for the size of those.)  A BOSH session has it in its state, and is asked
%% what it refers to; at first that may be rubbish.
-spec behind(target(), [non_neg_integer()], limits()) ->
          {Messages :: non_neg_integer(), Bytes :: non_neg_integer()} | no.
behind({bosh, Pid}, _Sizes, Limits) ->
    case beyond(referred(Pid), Limits) of
        no ->
            no;
        _ ->
            garbage_collect(Pid),
            beyond(referred(Pid), Limits)
    end;
behind({_, Pid}, Sizes, Limits) ->
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

%% It may come again, and ask for what it has missed.
-spec cut(pid(), #member{}, non_neg_integer(), non_neg_integer()) -> ok.
cut(Session, #member{jid = JID, target = Target}, Messages, Bytes) ->
    ?LOG_WARNING("Disconnecting ~ts, which does not read: ~b messages of ~b bytes are waiting",
                 [jid:encode(JID), Messages, Bytes]),
    case Target of
        {websocket, Socket} -> exit(Socket, kill);  % it may be writing, for as long as it takes
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
