"""One stream kept alive by one owner thread: send, acknowledge, reconnect.

Any thread may call :meth:`Connection.request`; it only queues.  Everything else happens in the
owner thread, which opens the stream when there is something to send, writes requests one behind
the other without waiting (pipelining), gives each Future its answer, and opens the stream anew
when it is lost.  Futures are resolved with no lock held, so their callbacks may call us.
"""

from __future__ import annotations

import logging
import os
import secrets
import select
import threading
import time
import weakref
from collections import deque
from concurrent.futures import Future
from multiprocessing.util import Finalize
from typing import Any, TypeVar

from xmpp.simplexml import Node

from pubsub.exceptions import (
    InvalidItem,
    PubSubError,
    QueueFull,
    RequestTimeout,
    StreamError,
    StreamLost,
)
from pubsub.wire import stanzas
from pubsub.wire.account import Account
from pubsub.wire.backoff import Attempts
from pubsub.wire.ledger import Ledger, Pending
from pubsub.wire.session import Session, open_session
from pubsub.wire.wakeup import Wakeup

T = TypeVar("T")

logger = logging.getLogger("pubsub.wire")

#: How much is handed to the socket ahead of what the server has read, in bytes.  Requests that
#: are not in this buffer yet can still go out on the next stream when this one is lost.
BUFFER = 256 * 1024


class Connection:
    """A queue of requests and the thread that owns their stream.

    Nothing is opened and no thread is started before the first request, in each process anew: a
    child made by ``fork`` starts empty, and what its parent had queued stays the parent's.

    :param account: whom to log in as, and where; its ``timeout`` also bounds how long a request
        waits to be sent, and the farewell.
    :param queue_size: how many requests may wait for their answer; more are refused.
    :param ping_after: seconds of silence after which the server is asked for a sign of life.
    :param answer_within: seconds that the server has for an answer; None takes the account's
        ``timeout``.
    """

    def __init__(
        self,
        account: Account,
        *,
        queue_size: int = 10_000,
        ping_after: float = 30.0,
        answer_within: float | None = None,
    ) -> None:
        self.account = account
        self._answer_within = account.timeout if answer_within is None else answer_within
        self._queue_size = queue_size
        self._ping_after = ping_after
        self._reset()
        _connections.add(self)

    @property
    def server(self) -> str:
        """The server as ``host:port``."""
        return f"{self.account.host}:{self.account.port}"

    @property
    def is_owner(self) -> bool:
        """Whether this thread is the owner: it gives the answers, and must not wait for them."""
        return threading.current_thread() is self._thread

    def request(self, request: stanzas.Request[T]) -> Future[T]:
        """Queue a request; costs microseconds and never waits for the network.

        :returns: a Future of the request's parsed result.  It fails with RequestRefused (the
            server's error), RequestTimeout, StreamLost, or what kept the stream from opening; with
            QueueFull, at once, when the queue is full.  Its callbacks run in the owner thread.
        """
        future: Future[T] = Future()
        with self._queue_lock:
            if self._closed:
                refusal: PubSubError | None = StreamError(
                    self.server, "the connection has been closed; nothing can be sent any more"
                )
            elif len(self._queue) + self._ledger.size >= self._queue_size:
                refusal = QueueFull(
                    f"{self._queue_size} requests to {self.server} wait for an answer already "
                    "(PUBSUB_QUEUE_SIZE)"
                )
            else:
                refusal = self._queue_up(Pending(request, future))
        if refusal is not None:
            future.set_exception(refusal)
        return future

    def close(self, timeout: float | None = None) -> None:
        """Send what is queued, await its answers, and end the stream.

        Called at the exit of the interpreter, too.  Requests that are not answered in time fail
        with StreamLost.

        :param timeout: seconds to wait; None takes the account's.
        """
        with self._queue_lock:
            self._closed = True
            seconds = self.account.timeout if timeout is None else timeout
            self._flush_until = time.monotonic() + seconds
            thread = self._thread
            if thread is not None:
                self._wake()
        if thread is not None:
            self._finalizer.cancel()
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds + 1)
            if thread.is_alive():  # it is logging in, which has a time limit of its own
                self._fail_queue(self._unacknowledged())

    # Private

    def _reset(self) -> None:
        """The state of a connection that has done nothing yet, in this process."""
        self._queue_lock = threading.Lock()
        self._queue: deque[Pending[Any]] = deque()
        self._closed = False
        self._flush_until = 0.0
        self._thread: threading.Thread | None = None
        self._asleep = False
        #: How many streams have been lost so far; counted by the owner thread.
        self.losses = 0
        # Below: the owner thread's alone.
        self._ledger = Ledger(self._answer_within)
        self._session: Session | None = None
        self._outgoing = bytearray()
        self._attempts = Attempts()
        self._last_heard = 0.0
        self._id_prefix = ""
        self._sent = 0

    def _after_fork(self) -> None:
        """In the child: the stream and the thread are the parent's; begin anew."""
        if self._thread is not None:
            self._wakeup.close()
        self._reset()

    def _queue_up(self, pending: Pending[Any]) -> PubSubError | None:
        """Add to the queue and see to it that the owner knows; the caller holds the lock."""
        if self._thread is None:
            try:
                self._start()
            except (OSError, RuntimeError) as error:  # no descriptor, no thread left
                return StreamError(self.server, f"nothing can be sent: {error}")
        self._queue.append(pending)
        if self._asleep:
            self._wake()
        return None

    def _start(self) -> None:
        self._wakeup = Wakeup()
        # A daemon, so that the interpreter does not wait for it before it calls close().
        thread = threading.Thread(target=self._own, name=f"pubsub {self.server}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            self._wakeup.close()
            raise
        self._thread = thread
        # At the exit of the interpreter, after what was registered with atexit, which may publish;
        # and of a child of multiprocessing, which knows no atexit.
        self._finalizer = Finalize(None, self.close, exitpriority=0)

    def _wake(self) -> None:
        self._asleep = False
        self._wakeup.wake()

    def _own(self) -> None:
        """The life of the owner thread."""
        try:
            while not self._is_done():
                if self._session is not None:
                    self._serve(self._session)
                elif self._queue and self._attempts.is_due:
                    self._open()
                else:
                    self._wait()
                self._expire()
        except BaseException as error:
            # A bug.  Everybody who waits is told, and the next request starts a new thread.
            logger.exception("The owner thread of %s ends", self.server)
            self._lose(StreamLost(self.server, f"its owner thread failed: {error!r}"))
        finally:
            self._end()

    def _is_done(self) -> bool:
        if not self._closed:
            return False
        unfinished = bool(self._queue) or self._ledger.size > 0
        return not unfinished or time.monotonic() >= self._flush_until

    def _end(self) -> None:
        """After close(): nothing may stay behind without an answer."""
        self._ledger.fail_all(self._unacknowledged())
        if self._session is not None:
            self._session.close()
            self._session = None
        with self._queue_lock:
            left, self._queue = self._queue, deque()
            self._thread = None
            self._wakeup.close()
        for pending in left:
            pending.fail(self._attempts.error or self._unacknowledged())

    def _open(self) -> None:
        try:
            self._session = open_session(self.account)
        except StreamError as error:
            self._attempts.failed(error)
            logger.warning("%s (attempt %d)", error, self._attempts.failures)
        else:
            logger.info("Logged in at %s as %s", self.server, self._session.jid)
            self._attempts.succeeded()
            self._last_heard = time.monotonic()
            # Ids that nobody can guess, so that nobody can answer in the server's place.
            self._id_prefix = secrets.token_hex(6)

    def _serve(self, session: Session) -> None:
        """One turn of an open stream: write, wait, read."""
        try:
            self._fill()
            if self._outgoing:
                del self._outgoing[: session.write(self._outgoing)]
            self._wait()
            for stanza in session.read():
                self._last_heard = time.monotonic()
                self._handle(stanza)
            silent = self._ledger.silence()
            if silent is not None:
                self._ledger.fail_all(self._too_late())
                raise StreamLost(self.server, f"no answer for {silent:.1f} s")
            if self._ledger.size == 0 and self._heard_seconds_ago() > self._ping_after:
                self._send(Pending(stanzas.ping(self.account.domain), Future()))
        except StreamError as error:
            self._lose(error)

    def _fill(self) -> None:
        """Move requests from the queue to the buffer, oldest first."""
        while len(self._outgoing) < BUFFER and (pending := self._pop()):
            self._send(pending)

    def _send(self, pending: Pending[Any]) -> None:
        if pending.future.set_running_or_notify_cancel():
            self._sent += 1
            id = f"{self._id_prefix}{self._sent}"
            try:
                stanza = pending.request.to_xml(id).encode()
            except UnicodeEncodeError as error:  # a lone surrogate
                pending.fail(InvalidItem(f"it cannot be written: {error}"))
            else:
                self._ledger.add(id, pending)
                self._outgoing += stanza

    def _handle(self, stanza: Node) -> None:
        if stanza.getName() != "iq":
            return  # messages and presence are addressed to somebody who does not listen
        if stanza.getAttr("type") in ("get", "set"):
            self._outgoing += stanzas.answer(stanza).encode()
        else:
            self._ledger.settle(stanza)

    def _lose(self, error: StreamError) -> None:
        """The stream is gone: what was sent fails, what was not goes out on the next one."""
        logger.warning("Lost the stream: %s", error)
        if self._session is not None:
            self._session.abandon()
            self._session = None
        self._outgoing = bytearray()
        self.losses += 1
        self._attempts.failed(error)
        self._ledger.fail_all(error)

    def _expire(self) -> None:
        """Fail what has waited too long, saying what it waited for."""
        if self._session is not None:
            self._ledger.expire(self._too_late)
        elif self._attempts.is_hopeless:
            self._fail_queue(self._attempts.error or self._too_late())
        else:
            while (pending := self._pop(older_than=self.account.timeout)) is not None:
                pending.fail(self._attempts.error or self._too_late())

    def _too_late(self) -> RequestTimeout:
        return RequestTimeout(f"no answer from {self.server} within {self._answer_within:g} s")

    def _unacknowledged(self) -> StreamLost:
        return StreamLost(self.server, "not acknowledged before the connection was closed")

    def _pop(self, older_than: float = 0.0) -> Pending[Any] | None:
        """Take the oldest request out of the queue, if it is old enough."""
        with self._queue_lock:  # close() may take them, too
            if self._queue and self._queue[0].age() >= older_than:
                return self._queue.popleft()
        return None

    def _fail_queue(self, error: PubSubError) -> None:
        while (pending := self._pop()) is not None:
            pending.fail(error)

    def _heard_seconds_ago(self) -> float:
        return time.monotonic() - self._last_heard

    def _idle_seconds(self) -> float | None:
        """How long nothing needs to be done; None means until somebody calls."""
        now = time.monotonic()
        ends = [self._flush_until] if self._closed else []
        if self._session is None:
            if self._queue:
                ends.append(now if self._attempts.is_hopeless else self._attempts.next)
                ends.append(self._queue[0].since + self.account.timeout)
        elif self._session.has_pending or (self._queue and len(self._outgoing) < BUFFER):
            return 0.0
        elif self._ledger.size:
            ends.append(now + self._answer_within / 10)
        else:
            ends.append(self._last_heard + self._ping_after)
        return max(0.0, min(ends) - now + 0.001) if ends else None

    def _wait(self) -> None:
        """Wait until somebody calls, the stream has something for us, or the time is over."""
        session = self._session
        with self._queue_lock:
            # From here on a new request wakes us; one that came before is seen by what follows.
            self._asleep = True
            seconds = self._idle_seconds()
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        if session is not None:
            writing = select.POLLOUT if self._outgoing or session.wants_write else 0
            poll.register(session, select.POLLIN | writing)
        ready = poll.poll(None if seconds is None else seconds * 1000)
        self._asleep = False
        if any(descriptor == self._wakeup.fileno() for descriptor, _ in ready):
            self._wakeup.clear()


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


def _forget_parents() -> None:
    for connection in list(_connections):
        connection._after_fork()


os.register_at_fork(after_in_child=_forget_parents)
