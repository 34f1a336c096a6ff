"""How commands get on with the terminal or the pipe that they run in: signals, pipes, the log."""

from __future__ import annotations

import logging
import os
import select
import signal
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from django.core.management.base import BaseCommand

#: What a shell calls the exit status of a program that Ctrl-C ended.
INTERRUPTED = 128 + signal.SIGINT

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def quiet_log() -> Iterator[None]:
    """What fails is told by the command: it need not be written to standard error a second time.

    Handlers that the project has set up get everything, as always.
    """
    handler = logging.NullHandler()
    logging.getLogger("pubsub").addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger("pubsub").removeHandler(handler)


class InterruptibleCommand(BaseCommand):
    """A command that Ctrl-C ends without a traceback; what it has queued is still sent."""

    requires_system_checks = ["pubsub"]

    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
        except KeyboardInterrupt:
            self.stderr.write("Interrupted.")
            sys.exit(INTERRUPTED)


class Ending:
    """Raises KeyboardInterrupt at the first of SIGINT, SIGTERM and SIGHUP, and ignores the rest.

    A context manager.  So whoever tidies up after the first one is not interrupted any more.
    """

    def __init__(self) -> None:
        self._is_over = False
        self._undo = ExitStack()

    def __enter__(self) -> Ending:
        if threading.current_thread() is threading.main_thread():
            for signum in ENDING:
                previous = signal.signal(signum, self._interrupt)
                self._undo.callback(signal.signal, signum, previous)
        return self

    def __exit__(self, *error: object) -> None:
        self._undo.close()

    @contextmanager
    def only_here(self) -> Iterator[None]:
        """After this block no signal raises anything: what comes then is tidying up, too."""
        try:
            yield
        finally:
            self._is_over = True

    def _interrupt(self, signum: int, frame: object) -> None:
        if not self._is_over:
            self._is_over = True
            raise KeyboardInterrupt


@contextmanager
def ended_with_reader(output: Any) -> Iterator[None]:
    """In the block SIGTERM comes when nobody reads a pipe any more.

    A writer would only learn of it by his next line, which may be hours away.

    :param output: the file that is written to; nothing happens unless it is a pipe.
    """
    try:
        descriptor = output.fileno()
        is_pipe = stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except (AttributeError, OSError, ValueError):  # a file in memory
        is_pipe = False
    if not is_pipe:
        yield
        return
    over, end = os.pipe()

    def watch() -> None:
        poll = select.poll()
        poll.register(descriptor, 0)  # errors are always told
        poll.register(over, select.POLLIN)
        if all(found != over for found, _ in poll.poll()):
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch, name="pubsub watches its reader", daemon=True)
    thread.start()
    try:
        yield
    finally:
        os.close(end)  # which ends the thread
        thread.join()
        os.close(over)


def let_go_of(output: Any) -> None:
    """Forget what could not be written to a pipe, or Python would complain of it at exit."""
    with suppress(AttributeError, OSError, ValueError):
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, output.fileno())
        os.close(nothing)
