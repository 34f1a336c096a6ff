%%% The sessions that have subscribed to one node of mod_pubsub, and what is sent to them.
%%%
%%% One process for each node that has such subscribers, so events of a node leave it in the order in
%%% which they came, and nodes do not wait for each other.  An event is one binary, which all sessions
%%% share, and goes to their sockets by the shortest way there is (pubsub_outlet).
%%%
%%% It knows nothing of mod_pubsub: mod_pubsub_sessions says who joins, and calls with each event.
%%%
%%% Events and answers of mod_pubsub come to a session by different ways, so a session *holds* its
%%% events while it is being answered: they wait here until it has said that the answer is written.
%%% And while it reads what the answer will be no event is handed out to anybody: those from before
%%% are in the answer, and those that come after it are news.  (Who publishes waits; an event never
%%% waits for those who begin to read after it.)
-module(pubsub_fanout).

-behaviour(gen_server).

-export([start_link/1, join/3, confirm/2, leave/1, hold/1, known/1, release/1, event/2, drop/2,
         members/1, end_if_idle/1, stop/1, limit/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-define(IDLE, timer:seconds(60)).   % without a member; then it asks to end
-define(SWEEP_EVENTS, 200).         % so often is looked who does not read
-define(SWEEP_BYTES, 1000000).

-record(member, {jid :: jid:ljid(),
                 subid = <<>> :: binary(),              % until it is confirmed
                 target :: pubsub_outlet:target(),
                 monitor :: reference(),
                 holds = 0 :: non_neg_integer(),
                 held = [] :: [binary()],               % events, the latest first
                 unwritten = queue:new() :: queue:queue(non_neg_integer()),  % sizes of events
                 messages = 0 :: non_neg_integer(),     % that are held or not written,
                 bytes = 0 :: non_neg_integer()}).      % and what they weigh

-record(state, {key :: term(),
                owner :: pid(),
                table :: ets:tid() | atom(),
                limits :: pubsub_outlet:limits(),
                idle :: timeout(),
                members = #{} :: #{pid() => #member{}},
                ready = #{} :: #{pid() => pubsub_outlet:target()},  % for whom nothing waits
                writers = #{} :: #{pid() => pid()},   % whose sockets we write to, and their sessions
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

-spec limit(pid(), pubsub_outlet:limits()) -> ok.
limit(Fanout, Limits) ->
    gen_server:cast(Fanout, {limit, Limits}).

%%% The process

init(#{key := Key, owner := Owner, table := Table, limits := Limits} = Options) ->
    process_flag(trap_exit, true),
    Idle = maps:get(idle, Options, ?IDLE),
    {ok, #state{key = Key, owner = Owner, table = Table, limits = Limits, idle = Idle,
                nobody = pubsub_outlet:nobody()}, Idle}.

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
handle_cast({release, Session}, #state{members = Members} = State) ->
    case Members of
        #{Session := #member{holds = 1} = Member} -> noreply(let_go(Session, Member, State));
        #{Session := #member{holds = Holds} = Member} when Holds > 1 ->
            noreply(place(Session, Member#member{holds = Holds - 1}, State));
        _ -> noreply(State)
    end;
handle_cast({limit, Limits}, State) ->
    noreply(State#state{limits = Limits}).

handle_info({'DOWN', Sweeper, process, _, _}, #state{sweeper = Sweeper} = State) ->
    noreply(State#state{sweeper = none});
handle_info({'DOWN', _, process, Session, _}, State) ->
    noreply(remove(Session, State));
handle_info({text_reply, Writer}, #state{writers = Writers, members = Members} = State) ->
    case Writers of
        #{Writer := Session} -> noreply(place(Session, written(map_get(Session, Members)), State));
        _ -> noreply(State)
    end;
handle_info({'EXIT', Owner, Reason}, #state{owner = Owner} = State) ->
    {stop, Reason, State};
handle_info(timeout, #state{key = Key, owner = Owner} = State) ->
    Owner ! {?MODULE, idle, Key, self()},
    noreply(State);
handle_info(_Info, State) ->  % what a socket has answered later, for one
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
    Others#state{members = Members#{Session => Member}, readers = Readers#{Session => true},
                 writers = case Target of
                               {socket, Writer, _} -> (Others#state.writers)#{Writer => Session};
                               _ -> Others#state.writers
                           end};
do(hold, {Session, _} = From, #state{members = Members, readers = Readers} = State) ->
    gen_server:reply(From, ok),
    case Members of
        #{Session := #member{holds = Holds} = Member} ->
            place(Session, Member#member{holds = Holds + 1},
                  State#state{readers = Readers#{Session => true}});
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
remove(Session, #state{members = Members, ready = Ready, writers = Writers} = State) ->
    case maps:take(Session, Members) of
        {#member{jid = JID, monitor = Monitor, target = Target}, Others} ->
            demonitor(Monitor, [flush]),
            ets:delete(State#state.table, {JID, State#state.key}),
            has_read(Session, State#state{members = Others, ready = maps:remove(Session, Ready),
                                          writers = maps:remove(element(2, Target), Writers)});
        error ->
            State
    end.

-spec tell_ended([pid()], #state{}) -> ok.
tell_ended(Sessions, #state{key = Key}) ->
    lists:foreach(fun(Session) -> Session ! {?MODULE, ended, Key, self()} end, Sessions).

%%% Delivery

-spec dispatch(binary(), #state{}) -> #state{}.
dispatch(Event, #state{ready = Ready, members = Members, nobody = Nobody} = State) ->
    Prepared = pubsub_outlet:prepare(Event, Nobody),
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
                        place(Session, put_off(Event, map_get(Session, Each)), Acc)
                end, State, Late).

%% For a session that holds its events, or whose socket has no room now.
-spec put_off(binary(), #member{}) -> #member{}.
put_off(Event, #member{holds = 0, target = Target, unwritten = Unwritten} = Member) ->
    pubsub_outlet:write_behind(Target, Event),
    more(Event, Member#member{unwritten = queue:in(byte_size(Event), Unwritten)});
put_off(Event, #member{held = Held} = Member) ->
    more(Event, Member#member{held = [Event | Held]}).

more(Event, #member{messages = Messages, bytes = Bytes} = Member) ->
    Member#member{messages = Messages + 1, bytes = Bytes + byte_size(Event)}.

%% The first of those that were not.
-spec written(#member{}) -> #member{}.
written(#member{unwritten = Unwritten, messages = Messages, bytes = Bytes} = Member) ->
    case queue:out(Unwritten) of
        {{value, Size}, Others} ->
            Member#member{unwritten = Others, messages = Messages - 1, bytes = Bytes - Size};
        {empty, _} ->
            Member  % it has been one before, and has left meanwhile
    end.

%% A session is ready when nothing waits for it, and cut when too much does.
-spec place(pid(), #member{}, #state{}) -> #state{}.
place(Session, #member{messages = Messages, bytes = Bytes} = Member,
      #state{limits = #{messages := MaxMessages, bytes := MaxBytes}} = State)
  when Messages > MaxMessages; Bytes > MaxBytes ->
    pubsub_outlet:cut(Session, Member#member.jid, Member#member.target, {Messages, Bytes}),
    remove(Session, State);
place(Session, #member{holds = Holds, messages = Messages, target = Target} = Member,
      #state{members = Members, ready = Ready} = State) ->
    State#state{members = Members#{Session := Member},
                ready = case Holds + Messages of
                            0 -> Ready#{Session => Target};
                            _ -> maps:remove(Session, Ready)
                        end}.

%% What it has held is written, behind what has not been written before.
-spec let_go(pid(), #member{}, #state{}) -> #state{}.
let_go(Session, #member{held = Held, messages = Messages, bytes = Bytes} = Member,
       #state{nobody = Nobody} = State) ->
    Free = Member#member{holds = 0, held = [], messages = Messages - length(Held),
                         bytes = Bytes - lists:sum([byte_size(Event) || Event <- Held])},
    Told = lists:foldr(fun(Event, Acc) -> write(Event, Acc, Nobody) end, Free, Held),
    Held == [] orelse pubsub_outlet:settle(),
    place(Session, Told, State).

write(Event, #member{messages = 0, target = Target} = Member, Nobody) ->
    case pubsub_outlet:write(Target, pubsub_outlet:prepare(Event, Nobody)) of
        ok -> Member;
        busy -> put_off(Event, Member)
    end;
write(Event, Member, _Nobody) ->
    put_off(Event, Member).

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

-spec look(pid(), #member{}, [non_neg_integer()], pubsub_outlet:limits()) -> ok.
look(Session, #member{jid = JID, target = Target}, Sizes, Limits) ->
    case pubsub_outlet:beyond(Target, Sizes, Limits) of
        no -> ok;
        Waiting -> pubsub_outlet:cut(Session, JID, Target, Waiting)
    end.
