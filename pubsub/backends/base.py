"""The contract of a backend: where items go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from pubsub.conf import conf
from pubsub.exceptions import BackendError
from pubsub.futures import resolved
from pubsub.items import Item
from pubsub.wire.answers import PublishedItem, Subscription
from pubsub.wire.events import EventStream
from pubsub.wire.fanout import FanoutStatus
from pubsub.wire.guard import GuardStatus


class BaseBackend:
    """Takes items; one instance serves all threads of the process.

    A backend needs :meth:`send` only.  The operations on nodes are there when
    :attr:`manages_nodes` says so; without them they raise BackendError.
    """

    #: Whether there is a server whose nodes can be created, configured and read.
    manages_nodes = False

    #: Whether items are rows of the database, to be written in the transaction of what they tell
    #: of; then it is an :class:`~pubsub.backends.outbox.OutboxBackend`.
    is_outbox = False

    @classmethod
    def for_relay(cls) -> BaseBackend:
        """An instance that keeps nothing: what cannot be sent now fails now, all of it.

        Who relays has it in a table, and sends it again, in order.
        """
        return cls()

    def send(self, item: Item) -> Future[str]:
        """Publish or retract an item, without waiting.

        :returns: a Future of the item's id; it fails with a PubSubError.
        """
        raise NotImplementedError(f"{type(self).__name__} must define send()")

    def send_all(self, items: Sequence[Item], stream: str = "") -> list[Future[str]]:
        """Send items one behind the other, on one stream only.

        :param items: of lanes that have the same stream, as those of one lane always do.
        :param stream: its name, from :meth:`sign_of_life`; empty: any.  If it is gone all fail.
        :returns: their Futures; see :meth:`send`.
        """
        return [self.send(item) for item in items]

    def retract_again(self, node: str, item_id: str) -> Future[str]:
        """Take an item off a node whose retraction was refused because it is not there.

        A server that has died may show it all the same.

        :returns: a Future of the item's id, resolved when it is not there any more, or says of
            itself that it is gone (:func:`pubsub.payloads.tombstone`).
        """
        return resolved(item_id)

    def sign_of_life(self, lane: int) -> Future[str]:
        """Ask the server whether it has heard all that was sent in a lane.

        :param lane: see :func:`pubsub.items.lane_of`.
        :returns: a Future of the name of the lane's stream, resolved after everything that was
            sent before: as long as it is the same no stream was lost.  It fails with a PubSubError.
        """
        return resolved("")

    def resolves_here(self) -> bool:
        """Whether it is this thread that resolves the Futures: who waits in it waits in vain."""
        return False

    def ensure_node(self, node: str, configuration: Mapping[str, Any]) -> None:
        """Queue the creation of a node, unless this process knows that it exists."""

    def trouble(self) -> BaseException | None:
        """Why nothing can be sent at present, as far as that is known."""
        return None

    def close(self, timeout: float | None = None) -> None:
        """Send what is still queued, within a time limit, and let go of everything.

        :param timeout: seconds that it may take; None is the usual limit.
        """

    def create_node(self, node: str, configuration: Mapping[str, Any]) -> Future[None]:
        """Create a node; one that exists stays as it is."""
        raise self._unsupported("create_node")

    def configure_node(self, node: str, configuration: Mapping[str, Any]) -> Future[None]:
        """Change the configuration of a node."""
        raise self._unsupported("configure_node")

    def delete_node(self, node: str) -> Future[None]:
        """Delete a node with its items and subscriptions."""
        raise self._unsupported("delete_node")

    def get_configuration(self, node: str) -> Future[dict[str, str]]:
        """Field → value, without the ``pubsub#`` prefix."""
        raise self._unsupported("get_configuration")

    def get_items(self, node: str, max_items: int | None = None) -> Future[list[PublishedItem]]:
        """The items of a node, or so many of the newest."""
        raise self._unsupported("get_items")

    def count_items(self, node: str) -> Future[int]:
        """How many items a node has."""
        raise self._unsupported("count_items")

    def get_subscriptions(self, node: str) -> Future[list[Subscription]]:
        """Who is subscribed."""
        raise self._unsupported("get_subscriptions")

    def set_subscriptions(self, node: str, states: Mapping[str, str]) -> Future[None]:
        """Set the subscriptions of some JIDs: subscribed or none."""
        raise self._unsupported("set_subscriptions")

    def get_affiliations(self, node: str) -> Future[dict[str, str]]:
        """JID → owner, publisher, member, outcast …"""
        raise self._unsupported("get_affiliations")

    def set_affiliations(self, node: str, affiliations: Mapping[str, str]) -> Future[None]:
        """Set what some JIDs are to a node: owner, publisher, member, outcast, none …"""
        raise self._unsupported("set_affiliations")

    def get_nodes(self) -> Future[list[str]]:
        """The names of all nodes that we own, sorted."""
        raise self._unsupported("get_nodes")

    def end_sessions(self, jid: str, before: float, session: str | None = None) -> Future[None]:
        """End all sessions of one of the site's users on the server, and refuse his old tokens.

        :param jid: his bare JID.
        :param before: tokens that were issued then or earlier, in seconds since 1970, are refused.
        :param session: if given, those and only those are refused that have it as their ``sid``.
        :returns: a Future that is resolved when they have ended.
        """
        raise self._unsupported("end_sessions")

    def guard_status(self) -> Future[GuardStatus]:
        """What the server's guard (mod_pubsub_guard) says."""
        raise self._unsupported("guard_status")

    def fanout_status(self) -> Future[FanoutStatus]:
        """What the server's module that serves sessions (mod_pubsub_sessions) says."""
        raise self._unsupported("fanout_status")

    def listen(
        self, nodes: Iterable[str], report: Callable[[str], None] | None = None
    ) -> EventStream:
        """Subscribe, on a stream of its own; see :func:`pubsub.nodes.listen`."""
        raise self._unsupported("listen")

    def require_server(self, operation: str) -> None:
        """Refuse at once what has no server to be done at.

        :param operation: the method that will be called, for the error message.
        :raises BackendError: where :attr:`manages_nodes` is False.
        """
        if not self.manages_nodes:
            raise self._unsupported(operation)

    # Private

    def _unsupported(self, operation: str) -> BackendError:
        return BackendError(
            f"PUBSUB_BACKEND = {conf.backend!r}: {type(self).__name__} has no {operation}(): it "
            "talks to no server. Set it to 'pubsub.backends.xmpp.XMPPBackend' for that."
        )
