"""A stream that listens: it subscribes, gives events as they come, and tidies up after itself.

A subscription of an account outlives its session on ejabberd, and each that is left behind costs
every later publish time.  So each is noted before it is asked for, and close() ends them all: on
the stream that is open, or else on a new one.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace

from xmpp.simplexml import Node

from pubsub.exceptions import (
    ConnectError,
    PubSubError,
    RequestRefused,
    StreamError,
    StreamLost,
    SubscriptionRefused,
)
from pubsub.wire import stanzas
from pubsub.wire.account import Account
from pubsub.wire.backoff import PASSING, Attempts
from pubsub.wire.dialogue import Dialogue
from pubsub.wire.events import Event, parse_events
from pubsub.wire.transport import Deadline

logger = logging.getLogger("pubsub.wire")

#: Refusals of a server that is not quite there yet, as one may meet them after it was lost.
NOT_YET = {"service-unavailable", "remote-server-not-found", "remote-server-timeout"}

#: Refusals by which a server says that there is no such subscription (XEP-0060 §6.2.3).
NOT_SUBSCRIBED = {"item-not-found", "unexpected-request"}


class Listener:
    """An iterator of the events of some nodes; a context manager, to be closed in any case.

    Logging in and subscribing (XEP-0060 §6.1) are done when it is made.  When the stream is lost
    later it is opened again, with back-off and for as long as it takes, and all subscriptions are
    renewed; what is published in between is not brought later.

    Not thread-safe: it belongs to the one thread that iterates.  Ctrl-C may interrupt that at any
    point; one can go on then, or close.

    :param account: whom to log in as, and where; its ``timeout`` also bounds close().
    :param service: the JID of the pubsub service.
    :param nodes: what to subscribe to.
    :param report: is told, in a sentence, of streams lost and found again, and of nodes from
        which nothing comes any more; by default these are warnings in the log.
    :param ping_after: seconds of silence after which the server is asked for a sign of life.
    :param answer_within: seconds that the server has for an answer; None takes the account's
        ``timeout``.
    :raises StreamError: when no stream can be opened.
    :raises SubscriptionRefused: when the server refuses one of the nodes; none stays subscribed.
    """

    def __init__(
        self,
        account: Account,
        service: str,
        nodes: Iterable[str],
        *,
        report: Callable[[str], None] = logger.warning,
        ping_after: float = 30.0,
        answer_within: float | None = None,
    ) -> None:
        self.account = account
        #: The nodes that are listened to; one that is deleted leaves them.
        self.nodes = list(dict.fromkeys(nodes))
        self._service = service
        self._report = report
        self._ping_after = ping_after
        self._answer_within = account.timeout if answer_within is None else answer_within
        self._events: deque[Event] = deque()
        #: Node and full JID of every subscription that the server may hold for us.
        self._subscriptions: dict[tuple[str, str], None] = {}
        self._attempts = Attempts()
        self._dialogue: Dialogue | None = None
        self._closed = False
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Listener:
        return self

    def __next__(self) -> Event:
        """The next event; waits for it.

        The iteration ends when this is closed, or no node is left that anything could come from.

        :raises StreamError: when the stream was lost, and another attempt would be in vain.
        :raises SubscriptionRefused: when a node is not there any more after that.
        """
        while not self._closed:
            if self._events:
                return self._events.popleft()
            if not self.nodes:
                break
            self._turn()
        raise StopIteration

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the subscriptions (XEP-0060 §6.2), and the stream, within the account's time limit.

        What could not be ended is reported; nothing is raised.
        """
        if self._closed:
            return
        self._closed = True
        deadline = Deadline(self.account.timeout)
        try:
            if self._dialogue is not None and self._dialogue.is_sound:
                self._try_to_leave(self._dialogue, deadline)
            if self._subscriptions:
                self._drop()
                account = replace(self.account, timeout=deadline.remaining())
                self._leave(self._log_in(account), list(self._subscriptions), deadline)
        except PubSubError as error:
            left = ", ".join(f"{jid} to {node!r}" for node, jid in self._subscriptions)
            self._report(f"The server keeps the subscription of {left}: {error}")
        finally:
            self._drop()

    # Private

    def _turn(self) -> None:
        """Go on by one step: read what has come, or try to have a stream again."""
        try:
            if self._dialogue is None:
                self._reopen()
            elif self._dialogue.is_sound:
                self._dialogue.drive()
            else:
                raise StreamLost(self._server, "the reading of it was interrupted")
        except PASSING as error:
            self._drop()
            self._attempts.failed(error)
            seconds = self._attempts.next - time.monotonic()
            self._report(f"{error}; trying again in {seconds:.1f} s")
        except PubSubError:
            self._drop()
            raise

    def _reopen(self) -> None:
        time.sleep(max(0.0, self._attempts.next - time.monotonic()))
        try:
            self._open()
        except RequestRefused as error:
            if error.type != "wait" and error.condition not in NOT_YET:
                raise
            raise ConnectError(self._server, str(error)) from error
        except KeyboardInterrupt:
            self._drop()  # or it would be taken for one on which everything is subscribed to
            raise
        self._attempts.succeeded()
        self._report("Listening again; what was published meanwhile has been missed")

    def _open(self) -> None:
        """Log in and subscribe; then end what was subscribed on the streams before."""
        before = list(self._subscriptions)
        dialogue = self._log_in(self.account)
        asked = {}
        for node in self.nodes:
            self._subscriptions[node, dialogue.jid] = None
            asked[node] = dialogue.ask(stanzas.subscribe(self._service, node, dialogue.jid))
        dialogue.drive_until_done(asked.values())
        for node, future in asked.items():
            if isinstance(error := future.exception(), RequestRefused):
                del self._subscriptions[node, dialogue.jid]
                raise SubscriptionRefused(node, *error.args) from error
            if (state := future.result()) != "subscribed":
                self._report(f"The subscription to {node!r} is {state or 'of no known state'}")
        self._leave(dialogue, before)

    def _log_in(self, account: Account) -> Dialogue:
        self._dialogue = Dialogue(
            account,
            self._hear,
            ping_after=self._ping_after,
            answer_within=self._answer_within,
        )
        return self._dialogue

    def _try_to_leave(self, dialogue: Dialogue, deadline: Deadline) -> None:
        try:
            self._leave(dialogue, list(self._subscriptions), deadline)
        except StreamError as error:
            logger.info("Another stream is needed to unsubscribe: %s", error)

    def _leave(
        self,
        dialogue: Dialogue,
        subscriptions: Iterable[tuple[str, str]],
        deadline: Deadline | None = None,
    ) -> None:
        """End subscriptions, of this stream or of those that are gone."""
        asked = {
            (node, jid): dialogue.ask(stanzas.unsubscribe(self._service, node, jid))
            for node, jid in subscriptions
        }
        dialogue.drive_until_done(asked.values(), deadline)
        for subscription, future in asked.items():
            error = future.exception()
            if error is not None and getattr(error, "condition", "") not in NOT_SUBSCRIBED:
                raise error
            del self._subscriptions[subscription]

    def _hear(self, stanza: Node) -> None:
        for event in parse_events(stanza, self._service):
            self._events.append(event)
            if event.kind in ("delete", "unsubscribed") and event.node in self.nodes:
                self.nodes.remove(event.node)
                why = "it was deleted" if event.kind == "delete" else "its owner has excluded us"
                self._report(f"Nothing comes from {event.node!r} any more: {why}")

    def _drop(self) -> None:
        if self._dialogue is not None:
            self._dialogue.close()
            self._dialogue = None

    @property
    def _server(self) -> str:
        return f"{self.account.host}:{self.account.port}"
