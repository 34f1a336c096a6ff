"""``make soak``: faults at random for some minutes, and a ledger of what was lost by them.

Writers save and publish into PostgreSQL, relays send it to ejabberd, and two subscribers keep a
diary, while everything in between is cut, frozen, killed and replaced, in an order that the seed
decides.  It ends with 1 when anything was lost, out of order, or wrong.
"""

import argparse
import signal
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import django
from django.conf import settings

from pubsub.devstack import Stack
from tests import settings as settings_of_tests
from tests.postgres import Postgres
from tests.proxy import Proxy
from tests.server.faults.chaos import WRITERS, Chaos
from tests.server.faults.databases import Databases
from tests.server.faults.scene import Scene

THREADS = 4
#: Transactions per second, and at most so many in all: a node holds 10,000 items.
RATE, MOST = 40.0, 15_000


def soak(
    seconds: float, seed: int, ending: threading.Event, folder: Path, *, deletes: bool = True
) -> int:
    """Run; returns the exit code."""
    pause = THREADS * WRITERS / min(RATE, MOST / seconds)
    with ExitStack() as running:
        tell("starting ejabberd and PostgreSQL")
        postgres = running.enter_context(Postgres())
        database = Databases(folder, postgres).make()
        stack = running.enter_context(Stack(folder / "stack"))
        proxy = running.enter_context(Proxy(stack.ports.xmpp))
        scene = running.enter_context(
            Scene(stack, database, folder / "scene", port=proxy.port, nodes=12)
        )
        scene.watch("ada", "bob")
        chaos = Chaos(scene, proxy, postgres, seed, threads=THREADS, pause=pause, deletes=deletes)
        chaos.begin()
        since = time.monotonic()
        struck = 0
        while not ending.wait(chaos.pause()) and time.monotonic() - since < seconds:
            what = chaos.strike()
            struck += 1
            passed = time.monotonic() - since
            tell(f"{passed:4.0f} s: {what}; {scene.committed()} transactions")
        tell("the writers end; waiting for what is left")
        chaos.end()
        verdict = scene.judge()
        chaos.end_relays()
        print(f"{struck} faults, seed {seed}\n{verdict.table()}", flush=True)
        if not verdict.is_clean:
            print(scene.last_words(), file=sys.stderr)
        return 0 if verdict.is_clean else 1


def tell(line: str) -> None:
    print(f"soak: {line}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long (default: 300)")
    parser.add_argument("--seed", type=int, default=1, help="which faults (default: 1)")
    parser.add_argument("--keep-rows", action="store_true", help="save rows, and delete none")
    options = parser.parse_args()
    values = {name: getattr(settings_of_tests, name) for name in dir(settings_of_tests)}
    settings.configure(**{name: value for name, value in values.items() if name.isupper()})
    django.setup()
    ending = threading.Event()

    def end(signum: int, frame: FrameType | None) -> None:
        ending.set()
        signal.signal(signum, signal.default_int_handler)  # who asks twice does not wait

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    with tempfile.TemporaryDirectory(prefix="pubsub-soak-") as folder:
        return soak(
            options.seconds,
            options.seed,
            ending,
            Path(folder),
            deletes=not options.keep_rows,
        )


if __name__ == "__main__":
    sys.exit(main())
