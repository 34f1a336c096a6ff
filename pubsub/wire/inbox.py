"""What others ask the owner of a stream for, and how they wake him: no lock, no I/O but the waking.

Any thread puts something in, and waits for nobody: to append to a deque is one step of the
interpreter.  Only who owns the inbox takes out, and waits.
"""

from __future__ import annotations

import logging
import select
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from pubsub.exceptions import InvalidItem, PubSubError
from pubsub.wire import stanzas
from pubsub.wire.ledger import Pending
from pubsub.wire.session import Session
from pubsub.wire.wakeup import Wakeup

T = TypeVar("T")

logger = logging.getLogger("pubsub.wire")

#: For so many milliseconds after something was sent the owner, who looks for its answer, is not
#: woken for what comes next: the server takes one thing after the other anyway.
DOZE = 1


class Draft(Generic[T]):
    """A request that is made in the owner thread, not by the one who asks for it.

    :param make: makes it; None: nothing is to be sent, and it has seen to the Future.
    :param future: of what it will come to.
    """

    __slots__ = ("_make", "future")

    #: It may go by any stream.
    stream = ""

    def __init__(
        self, make: Callable[[Future[T]], stanzas.Request[T] | None], future: Future[T]
    ) -> None:
        self._make = make
        self.future = future

    def open(self) -> Pending[T] | None:
        """Make the request; None where nothing is to be sent."""
        try:
            request = self._make(self.future)
        except Exception as error:  # noqa: BLE001 (whoever waits for the Future is told)
            is_ours = isinstance(error, PubSubError)
            self.fail(error if is_ours else InvalidItem(f"it cannot be written: {error!r}"))  # type: ignore[arg-type]
        except BaseException:  # a callback may raise SystemExit, which Future lets through
            logger.exception("A callback of what was not sent")
        else:
            return None if request is None else Pending(request, self.future)
        return None

    def fail(self, error: PubSubError) -> None:
        """Give the Future the error, unless somebody has cancelled it."""
        Pending(NOTHING, self.future).fail(error)


class Inbox:
    """What was asked for and has not been looked at, oldest first.

    :raises OSError: by :meth:`open`, when the process has no descriptor left.
    """

    def __init__(self) -> None:
        self._entries: deque[Draft[Any] | Pending[Any]] = deque()
        self._wakeup: Wakeup | None = None
        self._is_asleep = False

    def __len__(self) -> int:
        return len(self._entries)

    def open(self) -> None:
        """Let the owner be woken from now on."""
        self._wakeup = Wakeup()

    def close(self) -> None:
        """Wake nobody any more.

        The descriptors go with the last one who holds them: he may be about to write, and by then
        they must not be somebody else's.
        """
        self._is_asleep = False
        self._wakeup = None

    def let_go(self) -> None:
        """Give the descriptors back: nobody else is left who could hold them."""
        if self._wakeup is not None:
            self._wakeup.close()
        self.close()

    def put(self, entries: Sequence[Draft[Any] | Pending[Any]]) -> None:
        """Put something in, in one piece, from any thread, and see to it that the owner knows."""
        self._entries.extend(entries)
        if self._is_asleep:
            self.wake()

    def wake(self) -> None:
        """Wake the owner, from any thread."""
        self._is_asleep = False
        wakeup = self._wakeup
        if wakeup is not None:
            wakeup.wake()

    def take(self) -> Iterator[Draft[Any] | Pending[Any]]:
        """Take out what is there now, oldest first."""
        for _ in range(len(self._entries)):
            try:
                yield self._entries.popleft()
            except IndexError:  # who closes a connection may take it, too
                return

    def wait(
        self, session: Session | None, seconds: float | None, *, is_writing: bool, is_busy: bool
    ) -> bool:
        """Wait until something is put in, the stream has something for us, or the time is over.

        :param session: the stream, if there is one.
        :param is_writing: whether there is something to be written to it.
        :param is_busy: whether the server is about to answer, so that nobody need wake us yet.
        :returns: whether the stream may have something for us.
        """
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)  # type: ignore[arg-type]
        if session is not None:
            poll.register(session, select.POLLIN | (select.POLLOUT if is_writing else 0))
        timeout = None if seconds is None else seconds * 1000
        ready = poll.poll(DOZE) if is_busy and timeout != 0 else []
        if not ready:
            self._is_asleep = True
            # From here on what is put in wakes us; what was put in before is seen here.
            ready = poll.poll(0 if self._entries else timeout)
            self._is_asleep = False
        descriptors = {descriptor for descriptor, _ in ready}
        if self._wakeup.fileno() in descriptors:  # type: ignore[union-attr]
            self._wakeup.clear()  # type: ignore[union-attr]
        return session is not None and (session.has_pending or session.fileno() in descriptors)


#: Stands for a request that was never made.
NOTHING: stanzas.Request[Any] = stanzas.Request("set", "", "", lambda result: None)
