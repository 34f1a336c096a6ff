%%% The sessions that have subscribed to one node of mod_pubsub, and what is sent to them.
%%%
%%% One process for each node that has such subscribers, so events of a node leave it in the order in
%%% which they came, and nodes do not wait for each other.  An event is one binary, which all sessions
%%% share, and goes to their sockets by the shortest way there is (pubsub_outlet).
%%%
%%% It knows nothing of mod_pubsub: mod_pubsub_sessions says who joins, and calls with each event.
%%%
%%% Events and answers of mod_pubsub come to a session by different ways, so a session *holds* its
%%% events while it is being answered: they wait until it has said that the answer is written.
%%% And while it reads what the answer will be no event is handed out to anybody: those from before
%%% are in the answer, and those that come after it are news.  So readers and events take turns: a few
%%% who read at once, the events that wait, the next few.
%%%
%%% Who publishes does not wait, unless a gate stops him (pubsub_gate), which is closed before somebody
%%% reads.  So events queue up here while one is written, and those that have go to each session in one
%%% write.  (What a publisher has sent before somebody else goes on stands here before what that one
%%% sends: so this process keeps its messages on its heap, as is usual.)
%%%
%%% What waits for one session is in pubsub_backlog.  That, the gate and the outlet stand below, and
%%% know nothing of this process.
-module(pubsub_fanout).

-behaviour(gen_server).

-export([start_link/1, join/3, confirm/2, leave/1, hold/1, known/1, release/1, event/3, drop/2,
         members/1, end_if_idle/1, stop/1, limit/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(IDLE, timer:seconds(60)).   % without a member; then it asks to end
-define(READ_LIMIT, timer:seconds(10)).
-define(AT_ONCE, 65536).            % bytes, with which no more events are added to a write
-define(SWEEP_LIMIT, timer:seconds(5)).
-define(SWEEP_EVENTS, 200).         % so often is looked who does not read
-define(SWEEP_BYTES, 1000000).

-record(member, {jid :: jid:ljid(),
                 subid = <<>> :: binary(),              % until it is confirmed
                 target :: pubsub_outlet:target(),
                 monitor :: reference(),
                 backlog :: pubsub_backlog:backlog()}).

-record(state, {key :: term(),
                owner :: pid(),
                table :: ets:tid() | atom(),
                limits :: pubsub_outlet:limits(),
                idle :: timeout(),
                members = #{} :: #{pid() => #member{}},
                ready = #{} :: #{pid() => pubsub_outlet:target()},  % for whom nothing waits
                writers = #{} :: #{pid() => pid()},   % whose sockets we write to, and their sessions
                %% Answers by writers to who has left, as long as they live.
                owed = #{} :: #{pid() => {pos_integer(), Monitor :: reference()}},
                readers = #{} :: #{pid() => Deadline :: reference()},
                gate :: pubsub_gate:keeper(),
                turn = reads :: reads | writes,       % whose it is next
                reads = queue:new() :: queue:queue(), % who wait for their turn
                writes = queue:new() :: queue:queue(),
                nobody :: pid(),
                sizes = [] :: [non_neg_integer()],    % of the latest events, in bytes
                sweeper = none :: none | reference(),
                events = 0 :: non_neg_integer(),      % since the last sweep
                bytes = 0 :: non_neg_integer()}).

%%% What others call

%% key names the node; gate is a new one; owner is asked to end it when it is idle; each member is {{key, JID, Session},
%% SubId} in the table, which is public and may belong to many.
-spec start_link(#{key := term(), gate := pubsub_gate:gate(), owner := pid(), table := ets:tid() | atom(),
                   limits := pubsub_outlet:limits(), idle => timeout()}) -> {ok, pid()} | {error, term()}.
start_link(Options) ->
    gen_server:start_link(?MODULE, Options, []).

%% The session in whose process this is called joins.  It is to read, and holds what comes.
-spec join(pid(), jid:ljid(), pubsub_outlet:target()) -> ok.
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

%% Keep the caller's events back from now on.  It is to read.  gone: it is no member any more.
-spec hold(pid()) -> ok | gone.
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

%% Hand an event to all: to those who are there now, and who are when it is written.
-spec event(pid(), pubsub_gate:gate(), binary()) -> ok.
event(Fanout, Gate, Event) ->
    case pubsub_gate:pass(Gate) of
        ok -> gen_server:cast(Fanout, {event, Event});
        wait -> gen_server:call(Fanout, {event, Event}, infinity)
    end.

%% Take sessions away, by their JIDs or all that have a bare one, when nobody reads; each is told
%% {pubsub_fanout, ended, Key, Fanout}.  Returns the JIDs of those that were there.
-spec drop(pid(), [jid:ljid()]) -> [jid:ljid()].
drop(Fanout, JIDs) ->
    gen_server:call(Fanout, {drop, JIDs}, infinity).

%% Those that have been confirmed.
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

-spec limit(pid(), pubsub_outlet:limits()) -> ok.
limit(Fanout, Limits) ->
    gen_server:cast(Fanout, {limit, Limits}).

%%% The process

init(#{key := Key, gate := Gate, owner := Owner, table := Table, limits := Limits} = Options) ->
    process_flag(trap_exit, true),
    Idle = maps:get(idle, Options, ?IDLE),
    {ok, #state{key = Key, gate = pubsub_gate:keeper(Gate), owner = Owner, table = Table,
                limits = Limits, idle = Idle, nobody = pubsub_outlet:nobody()}, Idle}.

handle_call({event, _} = Event, From, State) ->
    noreply(write_turn(Event, From, State));
handle_call({drop, _} = Drop, From, State) ->
    noreply(write_turn(Drop, From, State));
handle_call({join, _, _} = Join, From, State) ->
    noreply(read_turn(Join, From, State));
handle_call(hold, From, State) ->
    noreply(read_turn(hold, From, State));
handle_call({confirm, SubId}, {Session, _}, #state{members = Members} = State) ->
    case Members of
        #{Session := Member} ->
            Confirmed = Member#member{subid = SubId},
            note(Session, Confirmed, State),
            reply(ok, go_on(has_read(Session, State#state{members = Members#{Session := Confirmed}})));
        _ ->
            reply(gone, State)
    end;
handle_call(leave, {Session, _}, State) ->
    reply(ok, go_on(leave_owing(Session, State)));
handle_call(members, _From, #state{members = Members} = State) ->
    reply([{JID, SubId} || #member{jid = JID, subid = SubId} <- maps:values(Members), SubId /= <<>>],
          State);
handle_call(end_if_idle, _From, #state{members = Members} = State) when map_size(Members) == 0 ->
    {stop, normal, ended, State};
handle_call(end_if_idle, _From, State) ->
    reply(busy, State);
handle_call(stop, _From, #state{members = Members} = State) ->
    tell_ended(maps:keys(Members), State),
    {stop, normal, ok, State}.

handle_cast({event, _} = Event, State) ->
    noreply(write_turn(Event, nobody_waits, State));
handle_cast({known, Session}, State) ->
    noreply(go_on(has_read(Session, State)));
handle_cast({release, Session}, #state{members = Members, nobody = Nobody} = State) ->
    case Members of
        #{Session := #member{target = Target, backlog = Backlog} = Member} ->
            Released = Member#member{backlog = pubsub_backlog:release(Backlog, Target, Nobody)},
            noreply(go_on(place(Session, Released, State)));
        _ ->
            noreply(State)
    end;
handle_cast({limit, Limits}, State) ->
    noreply(State#state{limits = Limits}).

handle_info({'DOWN', Sweeper, process, _, _}, #state{sweeper = Sweeper} = State) ->
    noreply(State#state{sweeper = none});
handle_info({'DOWN', _, process, Process, _}, #state{owed = Owed} = State) ->
    noreply(go_on(remove(Process, State#state{owed = maps:remove(Process, Owed)})));
handle_info({timeout, Deadline, {reading, Session}}, #state{readers = Readers} = State) ->
    case Readers of
        #{Session := Deadline} ->
            #{Session := #member{jid = JID, target = Target}} = State#state.members,
            pubsub_outlet:cut(Session, JID, Target, "which has been reading for too long"),
            noreply(go_on(remove(Session, State)));
        _ ->
            noreply(State)
    end;
handle_info({timeout, Timer, pubsub_gate}, #state{gate = Gate} = State) ->
    case pubsub_gate:is_waiting(Timer, Gate) of
        true ->
            %% An event may be behind this message.
            Written = case arrived(0) of
                          [] -> State;
                          Events -> write(Events, State)
                      end,
            noreply(go_on(Written#state{gate = pubsub_gate:give_up(Written#state.gate)}));
        false ->
            noreply(State)
    end;
handle_info({text_reply, Writer}, #state{writers = Writers, members = Members} = State) ->
    case Writers of
        #{Writer := Session} ->
            #{Session := #member{backlog = Backlog} = Member} = Members,
            Written = Member#member{backlog = pubsub_backlog:written(Backlog)},
            noreply(place(Session, Written, State));
        _ -> noreply(has_paid(Writer, State))
    end;
handle_info({'EXIT', Owner, Reason}, #state{owner = Owner} = State) ->
    {stop, Reason, State};
handle_info(timeout, #state{key = Key, owner = Owner} = State) ->
    Owner ! {?MODULE, idle, Key, self()},
    noreply(State);
handle_info(_Info, State) ->  % what a socket has answered later, for one
    noreply(State).

terminate(_Reason, #state{table = Table, key = Key, members = Members}) ->
    try [ets:delete(Table, {Key, JID, Session})
         || {Session, #member{jid = JID}} <- maps:to_list(Members)]
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

%% Who reads and publishes at once would wait for itself.
write_turn(What, {Process, _} = From, #state{readers = Readers} = State)
  when is_map_key(Process, Readers) ->
    go_on(do(What, From, State));
write_turn(What, From, #state{writes = Writes} = State) ->
    go_on(State#state{writes = queue:in({What, From}, Writes)}).

read_turn(What, From, #state{reads = Reads} = State) ->
    go_on(State#state{reads = queue:in({What, From}, Reads)}).

go_on(#state{turn = Turn, reads = Reads, writes = Writes, readers = Readers, gate = Gate} = State) ->
    IsClosed = pubsub_gate:is_closed(Gate),
    case {queue:is_empty(Writes), queue:is_empty(Reads), map_size(Readers)} of
        {true, true, 0} ->
            State#state{turn = writes, gate = pubsub_gate:open(Gate)};
        {false, NoReads, 0} when NoReads; Turn == writes; not IsClosed ->
            #state{writes = Left} = Done = write_next(State),
            go_on(case queue:is_empty(Left) of
                      true -> Done#state{turn = reads};
                      false -> Done
                  end);
        {NoWrites, false, Reading} when NoWrites orelse Turn == reads ->
            case Reading < erlang:system_info(schedulers_online) andalso pubsub_gate:close(Gate) of
                false ->
                    State#state{turn = writes};
                {closed, Closed} ->
                    {{value, {What, From}}, Others} = queue:out(Reads),
                    go_on(do(What, From, State#state{gate = Closed, reads = Others}));
                {closing, Closing} ->
                    State#state{gate = Closing}
            end;
        _ ->
            State#state{turn = writes}
    end.

%% Events that stand next to each other go together.
-spec write_next(#state{}) -> #state{}.
write_next(#state{writes = Writes} = State) ->
    case queue:out(Writes) of
        {{value, {{event, _}, _}}, _} ->
            {Events, Left} = waiting(Writes, 0),
            write(Events, State#state{writes = Left});
        {{value, {What, From}}, Left} ->
            do(What, From, State#state{writes = Left})
    end.

-spec waiting(queue:queue(), non_neg_integer()) -> {[{binary(), term()}], queue:queue()}.
waiting(Writes, Bytes) when Bytes < ?AT_ONCE ->
    case queue:out(Writes) of
        {{value, {{event, Event}, From}}, Left} ->
            {Events, Others} = waiting(Left, Bytes + byte_size(Event)),
            {[{Event, From} | Events], Others};
        {{value, _}, _} ->
            {[], Writes};
        {empty, _} ->
            {arrived(Bytes), Writes}
    end;
waiting(Writes, _Bytes) ->
    {[], Writes}.

%% Events that have come meanwhile overtake nothing that somebody has been told is done.
arrived(Bytes) when Bytes < ?AT_ONCE ->
    receive
        {'$gen_cast', {event, Event}} -> [{Event, nobody_waits} | arrived(Bytes + byte_size(Event))];
        {'$gen_call', From, {event, Event}} -> [{Event, From} | arrived(Bytes + byte_size(Event))]
    after 0 ->
            []
    end;
arrived(_Bytes) ->
    [].

-spec write([{binary(), term()}], #state{}) -> #state{}.
write(Events, #state{gate = Gate} = State) ->
    Dispatched = dispatch([Event || {Event, _} <- Events], State),
    Waiting = [From || {_, From} <- Events, From /= nobody_waits],
    Written = pubsub_gate:written(length(Events) - length(Waiting), Gate),
    lists:foreach(fun(From) -> gen_server:reply(From, ok) end, Waiting),
    lists:foldl(fun({Event, _}, Acc) -> sweep(Acc, byte_size(Event)) end,
                Dispatched#state{gate = Written}, Events).

do({event, Event}, From, State) ->
    write([{Event, From}], State);
do({drop, JIDs}, From, #state{members = Members} = State) ->
    Dropped = [{Session, JID} || {Session, #member{jid = JID}} <- maps:to_list(Members),
                                 lists:member(JID, JIDs)
                                     orelse lists:member(jid:remove_resource(JID), JIDs)],
    Sessions = [Session || {Session, _} <- Dropped],
    tell_ended(Sessions, State),
    gen_server:reply(From, lists:usort([JID || {_, JID} <- Dropped])),
    lists:foldl(fun leave_owing/2, State, Sessions);
do({join, JID, Target}, {Session, _} = From, State) ->
    Writer = element(2, Target),
    {Late, #state{members = Members, writers = Writers} = Others}
        = take_owed(Writer, leave_owing(Session, State)),
    Member = #member{jid = JID, target = Target, monitor = monitor(process, Session),
                     backlog = pubsub_backlog:new(Late)},
    note(Session, Member, State),
    gen_server:reply(From, ok),
    reading(Session, Others#state{members = Members#{Session => Member},
                                  writers = case Target of
                                                {socket, _, _} -> Writers#{Writer => Session};
                                                _ -> Writers
                                            end});
do(hold, {Session, _} = From, #state{members = Members} = State) ->
    case Members of
        #{Session := #member{backlog = Backlog} = Member} ->
            gen_server:reply(From, ok),
            Holding = Member#member{backlog = pubsub_backlog:hold(Backlog)},
            place(Session, Holding, reading(Session, State));
        _ ->
            gen_server:reply(From, gone),
            State
    end.

reading(Session, #state{readers = Readers} = State) ->
    Deadline = erlang:start_timer(?READ_LIMIT, self(), {reading, Session}),
    State#state{readers = Readers#{Session => Deadline}}.

has_read(Session, #state{readers = Readers} = State) ->
    case maps:take(Session, Readers) of
        {Deadline, Others} ->
            erlang:cancel_timer(Deadline),
            State#state{readers = Others};
        error ->
            State
    end.

-spec note(pid(), #member{}, #state{}) -> true.
note(Session, #member{jid = JID, subid = SubId}, #state{table = Table, key = Key}) ->
    ets:insert(Table, {{Key, JID, Session}, SubId}).

-spec remove(pid(), #state{}) -> #state{}.
remove(Session, #state{members = Members, ready = Ready, writers = Writers} = State) ->
    case maps:take(Session, Members) of
        {#member{jid = JID, monitor = Monitor, target = Target}, Others} ->
            demonitor(Monitor, [flush]),
            ets:delete(State#state.table, {State#state.key, JID, Session}),
            has_read(Session, State#state{members = Others, ready = maps:remove(Session, Ready),
                                          writers = maps:remove(element(2, Target), Writers)});
        error ->
            State
    end.

%% Who leaves may come again before all has been written that was put off.
-spec leave_owing(pid(), #state{}) -> #state{}.
leave_owing(Session, #state{members = Members} = State) ->
    case Members of
        #{Session := #member{backlog = Backlog, target = Target}} ->
            Left = remove(Session, State),
            case pubsub_backlog:unwritten(Backlog) of
                0 -> Left;
                Count -> owe(element(2, Target), Count, Left)
            end;
        _ ->
            State
    end.

-spec tell_ended([pid()], #state{}) -> ok.
tell_ended(Sessions, #state{key = Key}) ->
    lists:foreach(fun(Session) -> Session ! {?MODULE, ended, Key, self()} end, Sessions).

%%% Delivery

-spec dispatch([binary()], #state{}) -> #state{}.
dispatch(Events, #state{ready = Ready, members = Members, nobody = Nobody} = State) ->
    Prepared = pubsub_outlet:prepare(Events, Nobody),
    Busy = maps:fold(fun(Session, Target, Acc) ->
                             case pubsub_outlet:write(Target, Prepared) of
                                 ok -> Acc;
                                 busy -> [Session | Acc]
                             end
                     end, [], Ready),
    pubsub_outlet:settle(),
    Late = case map_size(Ready) == map_size(Members) of
               true -> Busy;
               false -> maps:keys(maps:without(maps:keys(Ready), Members)) ++ Busy
           end,
    lists:foldl(fun(Session, #state{members = Each} = Acc) ->
                        place(Session, put_off(Events, map_get(Session, Each)), Acc)
                end, State, Late).

-spec put_off([binary()], #member{}) -> #member{}.
put_off(Events, #member{target = Target, backlog = Backlog} = Member) ->
    Member#member{backlog = pubsub_backlog:put_off(Events, Backlog, Target)}.

-spec owe(pid(), pos_integer(), #state{}) -> #state{}.
owe(Writer, Count, #state{owed = Owed} = State) ->
    State#state{owed = Owed#{Writer => {Count, monitor(process, Writer)}}}.

-spec take_owed(pid(), #state{}) -> {non_neg_integer(), #state{}}.
take_owed(Writer, #state{owed = Owed} = State) ->
    case maps:take(Writer, Owed) of
        {{Count, Monitor}, Others} ->
            demonitor(Monitor, [flush]),
            {Count, State#state{owed = Others}};
        error ->
            {0, State}
    end.

-spec has_paid(pid(), #state{}) -> #state{}.
has_paid(Writer, State) ->
    case take_owed(Writer, State) of
        {Count, Others} when Count > 1 -> owe(Writer, Count - 1, Others);
        {_, Others} -> Others
    end.

%% A session is ready when nothing waits for it, and cut when too much does.
-spec place(pid(), #member{}, #state{}) -> #state{}.
place(Session, #member{jid = JID, target = Target, backlog = Backlog} = Member,
      #state{members = Members, ready = Ready, limits = Limits} = State) ->
    case pubsub_backlog:beyond(Backlog, Limits) of
        no ->
            State#state{members = Members#{Session := Member},
                        ready = case pubsub_backlog:is_empty(Backlog) of
                                    true -> Ready#{Session => Target};
                                    false -> maps:remove(Session, Ready)
                                end};
        {Messages, Bytes} ->
            pubsub_outlet:cut(Session, JID, Target, pubsub_outlet:not_read(Messages, Bytes)),
            remove(Session, State)
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
                             timer:kill_after(?SWEEP_LIMIT),
                             maps:foreach(fun(Session, Member) ->
                                                  look(Session, Member, Latest, Limits)
                                          end, Members)
                     end),
    State#state{sweeper = Sweeper, sizes = Latest, events = 0, bytes = 0};
sweep(#state{sizes = Sizes, limits = Limits} = State, Size) ->
    State#state{sizes = lists:sublist([Size | Sizes], maps:get(messages, Limits) + 1)}.

-spec look(pid(), #member{}, [non_neg_integer()], pubsub_outlet:limits()) -> ok.
look(Session, #member{jid = JID, target = Target}, Sizes, Limits) ->
    case pubsub_outlet:beyond(Target, Sizes, Limits) of
        no -> ok;
        {Messages, Bytes} ->
            pubsub_outlet:cut(Session, JID, Target, pubsub_outlet:not_read(Messages, Bytes))
    end.
