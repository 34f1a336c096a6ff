"""One stream kept alive by one owner thread, for everybody: send, acknowledge, reconnect.

Any thread may call :meth:`Connection.request`; it only queues, and waits neither for the network
nor for others who do.  Everything else happens in the owner thread.  What lives here is what holds
for the process: its exit, and its forks.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from multiprocessing.util import Finalize
from typing import TypeVar

from pubsub.exceptions import StreamError
from pubsub.wire import stanzas
from pubsub.wire.account import Account
from pubsub.wire.channel import stream_of
from pubsub.wire.inbox import Draft
from pubsub.wire.ledger import Pending
from pubsub.wire.owner import Owner

T = TypeVar("T")


class Connection:
    """A queue of requests and the thread that owns their stream.

    Nothing is opened and no thread is started before the first request, in each process anew: a
    child made by ``fork`` starts empty, and what its parent had queued stays the parent's.

    :param account: whom to log in as, and where; its ``timeout`` also bounds how long a request
        that does not endure waits to be sent, and the farewell.
    :param queue_size: how many requests may wait for their answer; more are refused.
    :param ping_after: seconds of silence after which the server is asked for a sign of life.
    :param answer_within: seconds that the server has for an answer; None takes the account's
        ``timeout``.
    :param keeps: whether what endures waits for the next stream when one is lost or cannot be
        opened.  Otherwise everything that was requested until then fails, oldest first, before
        anything else is sent.
    """

    def __init__(
        self,
        account: Account,
        *,
        queue_size: int = 10_000,
        ping_after: float = 30.0,
        answer_within: float | None = None,
        keeps: bool = True,
    ) -> None:
        self.account = account
        #: Makes one that has done nothing yet, in this process.
        self._new_owner = partial(
            Owner,
            account,
            queue_size=queue_size,
            ping_after=ping_after,
            answer_within=account.timeout if answer_within is None else answer_within,
            keeps=keeps,
        )
        self._owner = self._new_owner()
        _connections.add(self)

    @property
    def server(self) -> str:
        """The server as ``host:port``."""
        return f"{self.account.host}:{self.account.port}"

    @property
    def is_owner(self) -> bool:
        """Whether this thread is the owner: it gives the answers, and must not wait for them."""
        return threading.current_thread() is self._owner.thread

    @property
    def trouble(self) -> StreamError | None:
        """Why there is no stream, as far as one was wanted."""
        return self._owner.attempts.error

    def knows(self, node: str) -> bool:
        """Whether a node was created on the present stream, or found to exist."""
        channel = self._owner.channel
        return channel is not None and channel.knows(node)

    def request(self, request: stanzas.Request[T]) -> Future[T]:
        """Queue a request; costs microseconds and never waits for the network.

        :returns: a Future of the request's parsed result.  It fails with RequestRefused (the
            server's error), RequestTimeout, StreamLost, or what kept the stream from opening; with
            QueueFull, at once, when the queue is full.  Its callbacks run in the owner thread.

        A request that endures does not fail because a stream is lost or there is none: it is sent
        again, in its place, when there is one.  If each of them ends over it, it fails with
        RequestFatal.
        """
        pending: Pending[T] = Pending(request, Future())
        self._add((pending,))
        return pending.future

    def draft(self, make: Callable[[Future[T]], stanzas.Request[T] | None]) -> Future[T]:
        """Queue a request that the owner thread makes; see :meth:`request`.

        :param make: makes it, of the Future that is returned; a request that endures, or None where
            nothing is to be sent: then it sees to the Future.  It is called in the order in which
            the requests of a connection were queued, must not wait, and knows what its caller knew.
        """
        draft = Draft(make, Future())
        self._add((draft,))
        return draft.future

    def request_all(
        self, requests: Sequence[stanzas.Request[T]], stream: str = ""
    ) -> list[Future[T]]:
        """Queue requests one behind the other, all of them or none; see :meth:`request`.

        :param stream: the name of the stream to send them on, from :meth:`sign_of_life`; when it
            is not there any more, all fail at once with StreamLost.  Of use where nothing is kept:
            no request of them is sent then when one before it was lost.
        """
        queued: list[Pending[T]] = [
            Pending(request, Future(), stream=stream) for request in requests
        ]
        self._add(queued, stream)
        return [pending.future for pending in queued]

    def sign_of_life(self, to: str) -> Future[str]:
        """Ask somebody to answer, whatever it be, after all that was requested of him before.

        :returns: a Future of the name of the stream by which the answer came.
        """
        return self.request(stanzas.ping(to, stream_of))

    def close(self, timeout: float | None = None) -> None:
        """Send what is queued, await its answers, and end the stream.

        Called at the exit of the interpreter, too.  Requests that are not answered in time fail,
        oldest first, with StreamLost or with what keeps the stream from opening.

        :param timeout: seconds to wait; None takes the account's.
        """
        close_all([self], timeout)

    # Private

    def _add(self, queued: Sequence[Pending[T]] | Sequence[Draft[T]], stream: str = "") -> None:
        if _finalizer is None:
            _close_at_exit()
        refusal = self._owner.add(queued, stream)
        if refusal is not None:
            for entry in queued:
                entry.fail(refusal)

    def _after_fork(self) -> None:
        """In the child: the thread and the stream are the parent's; begin anew."""
        self._owner.let_go()
        self._owner = self._new_owner()


def close_all(connections: Iterable[Connection], timeout: float | None = None) -> None:
    """Close connections, all at the same time; see :meth:`Connection.close`."""
    closing = []
    for connection in connections:
        owner = connection._owner
        seconds = connection.account.timeout if timeout is None else timeout
        closing.append((owner, owner.begin_to_close(seconds)))
    for owner, thread in closing:
        if thread is not None and thread is not threading.current_thread():
            owner.await_end(thread)


_connections: weakref.WeakSet[Connection] = weakref.WeakSet()
_finalizer: Finalize | None = None


def _close_at_exit() -> None:
    """See to it that all connections of this process are closed when it ends."""
    global _finalizer
    # After what was registered with atexit, which may publish; and at the end of a child of
    # multiprocessing, which knows no atexit.
    _finalizer = Finalize(None, lambda: close_all(list(_connections)), exitpriority=0)


def _forget_parents() -> None:
    global _finalizer
    _finalizer = None
    for connection in list(_connections):
        connection._after_fork()


os.register_at_fork(after_in_child=_forget_parents)
