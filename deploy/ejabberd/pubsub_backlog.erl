%%% What has come for one session and is not written yet, in its order.
%%%
%%% A session that is being answered *holds* its events: they are kept here, and written when it has
%%% let go of them as often as it held them.  Those for which its socket has no room are with the
%%% process of the socket, which says of each one when it is written; here it is known what they weigh.
%%% Until it has written them nothing goes past it.
%%%
%%% It must not know what a member is, who else there is, nor what is done with one that has too much:
%%% it stands below pubsub_fanout, and above pubsub_outlet.
-module(pubsub_backlog).

-export([new/1, hold/1, release/3, put_off/3, written/1, unwritten/1, is_empty/1, beyond/2]).

-export_type([backlog/0]).

-define(AT_ONCE, 65536).            % bytes, with which no more events are added to a write

-record(backlog, {holds = 0 :: non_neg_integer(),
                  held = [] :: [binary()],               % events, the latest first
                  unwritten = queue:new() :: queue:queue(non_neg_integer()),  % sizes of events
                  messages = 0 :: non_neg_integer(),     % that are held or not written,
                  bytes = 0 :: non_neg_integer()}).      % and what they weigh

-opaque backlog() :: #backlog{}.

%% Of a session that begins by holding its events.  Its socket still has so many to write that were
%% put off before.
-spec new(Late :: non_neg_integer()) -> backlog().
new(Late) ->
    #backlog{holds = 1, messages = Late, unwritten = queue:from_list(lists:duplicate(Late, 0))}.

-spec hold(backlog()) -> backlog().
hold(#backlog{holds = Holds} = Backlog) ->
    Backlog#backlog{holds = Holds + 1}.

%% The last time, what was held is written, behind what has not been written before.
-spec release(backlog(), pubsub_outlet:target(), Nobody :: pid()) -> backlog().
release(#backlog{holds = 0} = Backlog, _Target, _Nobody) ->
    Backlog;
release(#backlog{holds = 1, held = Held, messages = Messages, bytes = Bytes} = Backlog, Target,
        Nobody) ->
    Free = Backlog#backlog{holds = 0, held = [], messages = Messages - length(Held),
                           bytes = Bytes - lists:sum([byte_size(Event) || Event <- Held])},
    tell(lists:reverse(Held), Free, Target, Nobody);
release(#backlog{holds = Holds} = Backlog, _Target, _Nobody) ->
    Backlog#backlog{holds = Holds - 1}.

%% For a session that holds its events, or whose socket has no room now.
-spec put_off([binary()], backlog(), pubsub_outlet:target()) -> backlog().
put_off(Events, Backlog, Target) ->
    lists:foldl(fun(Event, Acc) -> put_one_off(Event, Acc, Target) end, Backlog, Events).

%% The first of those that were not.
-spec written(backlog()) -> backlog().
written(#backlog{unwritten = Unwritten, messages = Messages, bytes = Bytes} = Backlog) ->
    {{value, Size}, Others} = queue:out(Unwritten),
    Backlog#backlog{unwritten = Others, messages = Messages - 1, bytes = Bytes - Size}.

%% How many the process of the socket has to write.
-spec unwritten(backlog()) -> non_neg_integer().
unwritten(#backlog{unwritten = Unwritten}) ->
    queue:len(Unwritten).

%% Whether nothing waits, and the next event may be written at once.
-spec is_empty(backlog()) -> boolean().
is_empty(#backlog{holds = Holds, messages = Messages}) ->
    Holds + Messages == 0.

-spec beyond(backlog(), pubsub_outlet:limits()) ->
          {Messages :: non_neg_integer(), Bytes :: non_neg_integer()} | no.
beyond(#backlog{messages = Messages, bytes = Bytes}, #{messages := MaxMessages, bytes := MaxBytes})
  when Messages > MaxMessages; Bytes > MaxBytes ->
    {Messages, Bytes};
beyond(_Backlog, _Limits) ->
    no.

%%% Private

put_one_off(Event, #backlog{holds = 0, unwritten = Unwritten} = Backlog, Target) ->
    pubsub_outlet:write_behind(Target, Event),
    more(Event, Backlog#backlog{unwritten = queue:in(byte_size(Event), Unwritten)});
put_one_off(Event, #backlog{held = Held} = Backlog, _Target) ->
    more(Event, Backlog#backlog{held = [Event | Held]}).

more(Event, #backlog{messages = Messages, bytes = Bytes} = Backlog) ->
    Backlog#backlog{messages = Messages + 1, bytes = Bytes + byte_size(Event)}.

tell([], Backlog, _Target, _Nobody) ->
    Backlog;
tell(Events, #backlog{messages = 0} = Backlog, Target, Nobody) ->
    {Now, Later} = portion(Events, 0),
    Written = pubsub_outlet:write(Target, pubsub_outlet:prepare(Now, Nobody)),
    pubsub_outlet:settle(),
    case Written of
        ok -> tell(Later, Backlog, Target, Nobody);
        busy -> put_off(Events, Backlog, Target)
    end;
tell(Events, Backlog, Target, _Nobody) ->
    put_off(Events, Backlog, Target).

%% What goes in one write: all of it would be a copy of the session's own, in a queue that is not ours.
-spec portion([binary()], non_neg_integer()) -> {[binary()], [binary()]}.
portion([Event | Others], Bytes) when Bytes < ?AT_ONCE ->
    {Now, Later} = portion(Others, Bytes + byte_size(Event)),
    {[Event | Now], Later};
portion(Events, _Bytes) ->
    {[], Events}.
