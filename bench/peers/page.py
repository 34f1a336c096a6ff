"""The page of peers: each of them beside django-pubsub, turn by turn."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from bench.crowd import Crowd
from bench.errors import BenchError
from bench.fanout import FILES, Audience, Task, servers
from bench.guests import together
from bench.measure import Turn
from bench.pages import Conditions, Fans, Line, Page
from bench.peers.peer import Channels, Eventstream, Nchan, Peer
from bench.progress import say
from bench.pushing import PATIENCE, Pace, Publisher, allow_files, rounds
from pubsub.devstack import StackError
from tests.waiting import until

SIZE, QUICK_SIZE = 1000, 100
CORE = "channels_redis.core.RedisChannelLayer"
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
PROCESSORS = os.cpu_count() or 1

OURS = "peers: ours, WebSocket, nginx"
PEERS: Mapping[str, Callable[[], Peer]] = {
    "peers: nchan, WebSocket": partial(Nchan, "websocket"),
    "peers: nchan, Server-Sent Events": partial(Nchan, "sse"),
    "peers: django-eventstream, 1 worker, nginx": partial(Eventstream, 1),
    "peers: django-eventstream, 2 workers, nginx": partial(Eventstream, 2),
    "peers: Channels, nginx": partial(Channels, CORE, PROCESSORS),
    "peers: Channels, pub/sub layer, nginx": partial(Channels, PUBSUB, PROCESSORS),
}
#: Those that lose what they cannot deliver at once.
LOSING = [name for name in PEERS if "eventstream" in name or name == "peers: Channels, nginx"]
UNBOUND = 1_000_000  # events under way: no delivery is waited for
FEW = 2  # rounds: what was accepted takes some peers a minute
SILENCE = 10.0  # seconds without a delivery: some take their time when they lose
IDLE = 0.05  # seconds of CPU time in half a second


def unbound(name: str) -> str:
    """The line of a peer to which is published whatever it accepts."""
    return f"{name}, all it accepts"


def beside(name: str) -> str:
    """The task that was measured in turns with another one."""
    return f"{OURS}, beside {name}"


def turns(conditions: Conditions, wanted: Collection[str]) -> dict[str, list[Turn]]:
    """Turns of the tasks that are wanted, each peer's in alternation with our own."""
    size = SIZE if conditions.rounds >= 20 else QUICK_SIZE
    found: dict[str, list[Turn]] = {OURS: []}
    with ExitStack() as running:
        allow_files(FILES)
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="pubsub-bench-")))
        there = servers(running, folder, sessions=True, nginx=True)
        ours = Audience(running, Task("websocket", "nginx", size, sessions=True), there)
        ours.grow(size)
        for number, name in enumerate(PEERS):
            tasks = [task for task in (name, unbound(name)) if task in wanted]
            if not tasks:
                continue
            try:
                with audience(PEERS[name](), folder / f"peer{number}", size) as (peer, theirs):
                    say(f"{name}: {size} have come, and take turns with ours …")
                    for task in tasks:
                        pairs = alternate(conditions, ours.publisher, theirs, peer, task == name)
                        found[beside(task)] = [our for our, _ in pairs]
                        found[task] = [their for _, their in pairs]
                        found[OURS] += found[beside(task)]
            except (BenchError, StackError) as error:
                say(f"{name} is not measured: {error}")
        if not found[OURS]:
            found[OURS] = [ours.publisher.turn(Pace.of(conditions)) for _ in range(FEW)]
    return found


def alternate(
    conditions: Conditions, ours: Publisher, theirs: Publisher, peer: Peer, bound: bool
) -> list[tuple[Turn, Turn]]:
    """Turns of ours and theirs, A B A B.

    :param bound: whether deliveries of theirs are waited for; if not, the turns are few.
    """
    pace, count = Pace.of(conditions), rounds(conditions)
    pairs = []
    for _ in range(count if bound else min(FEW, count)):
        our = ours.turn(pace)
        pairs.append((our, theirs.turn(pace, peer.ahead if bound else UNBOUND)))
        let_rest(peer)
    return pairs


def let_rest(peer: Peer) -> None:
    """Wait until a peer is done with what nobody hears: it would be charged to the next turns."""
    end = time.monotonic() + PATIENCE
    known = peer.cpu_seconds()
    while time.monotonic() < end:
        time.sleep(0.5)
        known, before = peer.cpu_seconds(), known
        if known - before < IDLE:
            return
    say("… it does not come to rest")


@contextmanager
def audience(peer: Peer, folder: Path, size: int) -> Iterator[tuple[Peer, Publisher]]:
    """A peer with so many subscribers, as long as the block lasts.

    :raises StackError: when a program is missing, or does not start.
    :raises BenchError: when they cannot subscribe.
    """
    say("starting a peer …")
    peer.start(folder)
    try:
        with closing(Crowd(peer.kind)) as crowd:
            crowd.start()
            together(lambda _: join(peer, crowd), size)
            await_all(peer, size)
            publisher = Publisher(peer.publish, crowd, peer.cpu_seconds, SILENCE)
            publisher.warm_up()
            yield peer, publisher
    finally:
        peer.stop()


def await_all(peer: Peer, size: int) -> None:
    """Wait until the server knows all subscribers.

    :raises BenchError: when it does not.
    """
    try:
        until(lambda: peer.joined(size), f"{size} subscribers are on the list", PATIENCE)
    except AssertionError as error:
        raise BenchError(str(error)) from None


def join(peer: Peer, crowd: Crowd) -> None:
    """Let a subscriber join a crowd."""
    joined = peer.join()
    crowd.add(joined.sock, rest=joined.rest, chunked=joined.chunked)


# The page


def lines() -> Iterator[Line]:
    """All lines; those of peers are beside ours."""
    yield Line(OURS, OURS, aim=20)
    for name in PEERS:
        yield Line(name, name, beside(name))
        if name in LOSING:
            yield Line(unbound(name), unbound(name), beside(unbound(name)))


PAGE = Page(
    "Peers",
    [
        "1,000 subscribers of one channel (100 with --quick), an event of 350 bytes, everything on",
        "this machine; p50, p99, steady: 5 events a second; pushed: as fast as they are accepted.",
        "µs: CPU time of all servers (Redis, nginx, Python, ejabberd) per delivery, not of what",
        "publishes, a process of its own with peers.  Most of them accept more than they deliver,",
        "and lose it.  So pushing waits for deliveries, as no site can (five events may be under",
        "way with django-eventstream, 10 with Channels, 50 with others); the lines of all that is",
        "accepted do not, in two rounds.  Each peer takes turns with ours, to which ratios are.",
    ],
    [Fans(list(lines()), turns)],
    tells="fans",
)
