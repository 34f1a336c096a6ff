"""The owner of a stream: the thread that opens, writes and reads it, and what it is told by others.

Any thread may call :meth:`Owner.add`, which only puts something into the inbox.  The thread looks
there, opens the stream when there is something to send, writes requests one behind the other
without waiting (pipelining), gives each Future its answer, and opens the stream anew when it is
lost.  Futures are resolved with no lock held, so their callbacks may call us.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pubsub.exceptions import (
    PubSubError,
    QueueFull,
    RequestFatal,
    RequestTimeout,
    StreamError,
    StreamLost,
)
from pubsub.wire.account import Account
from pubsub.wire.backoff import Attempts
from pubsub.wire.channel import Channel
from pubsub.wire.inbox import Draft, Inbox
from pubsub.wire.ledger import Pending
from pubsub.wire.outgoing import STRIKES, Outgoing, blame
from pubsub.wire.session import open_session

logger = logging.getLogger("pubsub.wire")


class Owner:
    """A queue of requests, and the thread that sends them; there is none before the first.

    :param account, queue_size, ping_after, answer_within, keeps: see
        :class:`~pubsub.wire.connection.Connection`.
    """

    def __init__(
        self,
        account: Account,
        *,
        queue_size: int,
        ping_after: float,
        answer_within: float,
        keeps: bool,
    ) -> None:
        self.account = account
        self.server = f"{account.host}:{account.port}"
        self.thread: threading.Thread | None = None
        #: The open stream; the thread sets it, holding the lock.
        self.channel: Channel | None = None
        #: The attempts to have one.
        self.attempts = Attempts()
        self._queue_size = queue_size
        self._ping_after = ping_after
        self._answer_within = answer_within
        self._keeps = keeps
        self._inbox = Inbox()
        # Between the thread and those who start or close it; who only asks does without.
        self._queue_lock = threading.Lock()
        self._outgoing = Outgoing()
        self._closed = False
        self._flush_until = 0.0
        self._is_ending = False
        #: Whether the last stream may have ended over something that is sent again.
        self._is_careful = False
        # By which pages know what was sent again: who sent it, and how many before it.
        self._source = secrets.token_hex(6)
        self._marks = 0

    def add(
        self, queued: Sequence[Pending[Any]] | Sequence[Draft[Any]], stream: str = ""
    ) -> PubSubError | None:
        """Queue requests, all or none, and see to it that the thread knows.

        Several threads that come at once may each find the last place in the queue free.

        :param stream: the name of the stream that must be open; empty: any, or none.
        :returns: why they were not taken, if so.
        """
        refusal = self._refusal(len(queued), stream)
        if refusal is None and self.thread is None:
            refusal = self._start()
        if refusal is not None:
            return refusal
        self._inbox.put(queued)
        if self.thread is None:  # it has ended meanwhile, and does not look any more
            self._fail_queue(self.attempts.error or self._unacknowledged())
        return None

    def begin_to_close(self, seconds: float) -> threading.Thread | None:
        """Have the thread end when all is answered, or the time is over; returns the thread."""
        end = time.monotonic() + seconds
        with self._queue_lock:
            self._flush_until = min(end, self._flush_until) if self._closed else end
            self._closed = True
            self.attempts.hasten()
            self._inbox.wake()
            return self.thread

    def await_end(self, thread: threading.Thread) -> None:
        """Wait for the end of the thread; what it has no time for fails."""
        thread.join(max(0.0, self._flush_until - time.monotonic()) + 1)
        if thread.is_alive() and not self._is_ending:
            # It is logging in, which has a time limit of its own.
            self._fail_queue(self._unacknowledged())
        if self._is_ending:
            thread.join(self.account.timeout)  # it tells everybody whose request has failed

    def let_go(self) -> None:
        """In a forked child, where the thread and the stream are the parent's."""
        self._inbox.let_go()

    # Private

    def _refusal(self, count: int, stream: str) -> PubSubError | None:
        """Why so many requests cannot be taken now."""
        if self._closed:
            return StreamError(
                self.server, "the connection has been closed; nothing can be sent any more"
            )
        channel = self.channel
        if stream and (channel is None or channel.name != stream):
            return self._gone()
        sent = channel.ledger.size if channel is not None else 0
        if len(self._inbox) + len(self._outgoing) + sent + count > self._queue_size:
            return QueueFull(
                f"{self._queue_size} requests to {self.server} wait for an answer already "
                "(PUBSUB_QUEUE_SIZE)"
            )
        return None

    def _start(self) -> PubSubError | None:
        """Start the thread; returns why that cannot be done, if so."""
        with self._queue_lock:
            if self._closed or self.thread is not None:
                return self._refusal(0, "")  # somebody else was quicker
            # A daemon, so that the interpreter does not wait for it before it calls close().
            thread = threading.Thread(target=self._own, name=f"pubsub {self.server}", daemon=True)
            try:
                self._inbox.open()
                thread.start()
            except (OSError, RuntimeError) as error:  # no descriptor, no thread left
                self._inbox.close()
                return StreamError(self.server, f"nothing can be sent: {error}")
            self.thread = thread
        return None

    def _take_in(self) -> None:
        """Queue what others have asked for since."""
        channel = self.channel
        for entry in self._inbox.take():
            if entry.stream and (channel is None or channel.name != entry.stream):
                entry.fail(self._gone())
            elif (pending := entry.open()) is not None:
                with self._queue_lock:
                    self._outgoing.append(pending)

    def _own(self) -> None:
        """The life of the owner thread."""
        try:
            while not self._is_done():
                self._take_in()
                if self.channel is not None:
                    self._serve(self.channel)
                elif self._outgoing and self.attempts.is_due:
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
        if time.monotonic() >= self._flush_until:
            return True
        is_answered = self.channel is None or self.channel.ledger.size == 0
        with self._queue_lock:
            return is_answered and not (len(self._inbox) or self._outgoing.is_wanted)

    def _end(self) -> None:
        """After close(): nothing may stay behind without an answer."""
        self._is_ending = True
        channel = self.channel
        if channel is not None:
            channel.session.close()
        error = self.attempts.error or self._unacknowledged()
        with self._queue_lock:
            self.channel = None
            self.thread = None
            self._inbox.close()
            left = channel.ledger.take_all() if channel else []
        for pending in left:
            pending.fail(error)
        # From here on who asks sees that there is no thread; what he asked before is here.
        self._fail_queue(error)
        self._is_ending = False

    def _open(self) -> None:
        account = self.account
        if self._closed:
            left = max(0.1, self._flush_until - time.monotonic())
            account = replace(account, timeout=min(account.timeout, left))
        try:
            # By the same resource, so that the server ends a stream that we believe to be lost:
            # what is still on its way there would come after what is sent now.
            session = open_session(account, f"pubsub-{self._source}")
        except StreamError as error:
            self.attempts.failed(error)
            logger.warning("%s (attempt %d)", error, self.attempts.failures)
            if not self._keeps:
                self._fail_queue(error)
            return
        logger.info("Logged in at %s as %s", self.server, session.jid)
        with self._queue_lock:
            self.attempts.succeeded()
            self.channel = Channel(
                session,
                account.domain,
                self._answer_within,
                self._next_mark,
                is_careful=self._is_careful,
            )

    def _serve(self, channel: Channel) -> None:
        """One turn of an open stream: write, wait, read."""
        try:
            channel.resume()
            while (pending := self._next(channel)) is not None:
                channel.ask(pending)
            channel.write()
            if leisure := channel.leisure:
                time.sleep(leisure)  # then there is more to be read, and to be sent, at once
            if self._wait():
                channel.read()
        except StreamError as error:
            self._lose(error)
            return
        silent = channel.ledger.silence()
        if silent is not None:
            self._lose(StreamLost(self.server, f"no answer for {silent:.1f} s"), is_silent=True)
        elif channel.ledger.size == 0 and channel.last_heard + self._ping_after < time.monotonic():
            channel.ping()

    def _next(self, channel: Channel) -> Pending[Any] | None:
        """Take the oldest request out of the queue, if it may be sent now."""
        while True:
            with self._queue_lock:
                first = self._outgoing.first
                if first is None or not channel.accepts(first):
                    return None
                if first.future.done() or not channel.lacks_node(first):
                    return self._outgoing.take()
            channel.create(first)

    def _next_mark(self) -> str:
        self._marks += 1
        return f"{self._source}.{self._marks}"

    def _lose(self, error: StreamError, *, is_silent: bool = False) -> None:
        """The stream is gone: what endures goes out on the next one, before all else."""
        logger.warning("Lost the stream: %s", error)
        self.attempts.failed(error)
        channel = self.channel
        if channel is None:
            return
        channel.session.abandon()
        self._take_in()
        with self._queue_lock:
            self.channel = None
            left = channel.ledger.take_all()
            if self._keeps:
                self._is_careful = bool(left)
                blame(
                    left,
                    answered=channel.ledger.has_answers,
                    silent=is_silent,
                    accused=isinstance(error, StreamLost) and error.accuses,
                )
                left = self._outgoing.take_back(left)
            else:
                left += self._outgoing.take_all()
        for pending in left:
            if pending.strikes >= STRIKES:
                pending.fail(self._fatal(pending, error))
            elif is_silent and self._keeps and pending.prepares is None:
                pending.fail(self._too_late())
            else:
                pending.fail(error)

    def _expire(self) -> None:
        """Fail what has waited too long, saying what it waited for."""
        if self.channel is not None:
            self.channel.ledger.expire(self._too_late)
        elif self.attempts.is_hopeless:
            self._fail_queue(self.attempts.error or self._too_late())
        elif self._keeps:
            with self._queue_lock:
                expired = self._outgoing.take_expired(self.account.timeout)
            for pending in expired:
                pending.fail(self.attempts.error or self._too_late())

    def _gone(self) -> StreamLost:
        return StreamLost(self.server, "the stream that this was meant for is gone")

    def _too_late(self) -> RequestTimeout:
        return RequestTimeout(f"no answer from {self.server} within {self._answer_within:g} s")

    def _fatal(self, pending: Pending[Any], error: StreamError) -> RequestFatal:
        return RequestFatal(
            self.server,
            f"this was sent {pending.sendings} times, and each time the stream ended over it; the "
            f"last time: {error.reason}",
        )

    def _unacknowledged(self) -> StreamLost:
        return StreamLost(self.server, "not acknowledged before the connection was closed")

    def _fail_queue(self, error: PubSubError) -> None:
        with self._queue_lock:  # close() may take them, too
            failing = [*self._outgoing.take_all(), *self._inbox.take()]
        for entry in failing:
            entry.fail(error)

    def _idle_seconds(self) -> float | None:
        """How long nothing needs to be done; None means until somebody calls."""
        now = time.monotonic()
        channel, first = self.channel, self._outgoing.first
        ends = [self._flush_until] if self._closed else []
        if channel is None:
            if first is not None:
                ends.append(now if self.attempts.is_hopeless else self.attempts.next)
            if self._keeps and (expiry := self._outgoing.next_expiry(self.account.timeout)):
                ends.append(expiry)
        elif channel.session.has_pending or (first is not None and channel.accepts(first)):
            return 0.0
        elif channel.ledger.size:
            ends.append(now + self._answer_within / 10)
        else:
            ends.append(channel.last_heard + self._ping_after)
        if channel is not None and channel.resume_at is not None:
            ends.append(channel.resume_at)
        return max(0.0, min(ends) - now + 0.001) if ends else None

    def _wait(self) -> bool:
        """Wait until somebody calls, the stream has something for us, or the time is over.

        :returns: whether the stream may have something for us.
        """
        channel = self.channel
        with self._queue_lock:
            seconds = self._idle_seconds()
        return self._inbox.wait(
            None if channel is None else channel.session,
            seconds,
            is_writing=channel is not None and channel.is_writing,
            is_busy=channel is not None and channel.ledger.size > 0,
        )
