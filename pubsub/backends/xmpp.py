"""The backend that publishes to an XMPP server: the stair between Django's half and ``wire/``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from pubsub.backends.base import BaseBackend
from pubsub.backends.latest import Latest
from pubsub.conf import conf
from pubsub.exceptions import InvalidNode, QueueFull
from pubsub.futures import failed
from pubsub.items import Item, valid_configuration, valid_node
from pubsub.payloads import check_xml, shortened
from pubsub.wire import stanzas
from pubsub.wire.account import Account
from pubsub.wire.answers import PublishedItem, Subscription
from pubsub.wire.connection import Connection
from pubsub.wire.events import EventStream
from pubsub.wire.listening import Listener

logger = logging.getLogger("pubsub")

#: How many nodes are remembered as existing, so that they are not created again.
REMEMBERED = 10_000


class XMPPBackend(BaseBackend):
    """Turns items into stanzas and hands them to one connection."""

    manages_nodes = True

    def __init__(self) -> None:
        self._service = conf.pubsub_host
        self._node_defaults = conf.node_defaults
        self._account = Account(
            jid=conf.jid,
            password=conf.password,
            host=conf.host,
            port=conf.port,
            tls=conf.tls,
            ca_file=conf.ca_file,
            timeout=conf.timeout,
        )
        self._connection = Connection(self._account, queue_size=conf.queue_size)
        self._existing: dict[str, None] = {}  # in order of creation, to forget the oldest
        self._losses = 0
        self._existing_lock = threading.Lock()
        self._latest = Latest()

    def send(self, item: Item) -> Future[str]:
        if not item.is_retraction:
            # The server would create it by itself, but with a configuration of its own.
            full = self._ensure(item.node, item.configuration)
            if full is not None:
                return failed(full)
        if item.id is None or item.sequence is None:
            return self._request(item)
        return self._latest.send(item, self._request)

    def resolves_here(self) -> bool:
        return self._connection.is_owner

    def ensure_node(self, node: str, configuration: Mapping[str, Any]) -> None:
        full = self._ensure(node, configuration)
        if full is not None:
            logger.warning("Could not create the node %s: %s", node, full)

    def close(self) -> None:
        self._connection.close()

    def create_node(self, node: str, configuration: Mapping[str, Any]) -> Future[None]:
        fields = valid_configuration({**self._node_defaults, **configuration})
        return self._connection.request(stanzas.create(self._service, valid_node(node), fields))

    def configure_node(self, node: str, configuration: Mapping[str, Any]) -> Future[None]:
        fields = valid_configuration(configuration)
        return self._connection.request(stanzas.configure(self._service, valid_node(node), fields))

    def delete_node(self, node: str) -> Future[None]:
        self._forget(node)
        return self._connection.request(stanzas.delete(self._service, valid_node(node)))

    def get_configuration(self, node: str) -> Future[dict[str, str]]:
        return self._connection.request(stanzas.configuration(self._service, valid_node(node)))

    def get_items(self, node: str, max_items: int | None = None) -> Future[list[PublishedItem]]:
        request = stanzas.items(self._service, valid_node(node), max_items=max_items)
        return self._connection.request(request)

    def count_items(self, node: str) -> Future[int]:
        return self._connection.request(stanzas.count(self._service, valid_node(node)))

    def get_subscriptions(self, node: str) -> Future[list[Subscription]]:
        return self._connection.request(stanzas.subscriptions(self._service, valid_node(node)))

    def get_affiliations(self, node: str) -> Future[dict[str, str]]:
        return self._connection.request(stanzas.affiliations(self._service, valid_node(node)))

    def set_affiliations(self, node: str, affiliations: Mapping[str, str]) -> Future[None]:
        for jid, affiliation in affiliations.items():
            check_xml(f"{jid}={affiliation}", f"the affiliation of {shortened(jid)}")
        request = stanzas.set_affiliations(self._service, valid_node(node), affiliations)
        return self._connection.request(request)

    def get_nodes(self) -> Future[list[str]]:
        return self._connection.request(stanzas.own_nodes(self._service))

    def listen(
        self, nodes: Iterable[str], report: Callable[[str], None] | None = None
    ) -> EventStream:
        names = [valid_node(node) for node in nodes]
        if not names:
            raise InvalidNode("there is no node to listen to; name at least one")
        return Listener(self._account, self._service, names, report=report or logger.warning)

    # Private

    def _ensure(self, node: str, configuration: Mapping[str, Any]) -> QueueFull | None:
        """Queue the creation of a node, unless we know that it exists.

        :returns: that there was no room for it; then the item must not be sent either.
        """
        with self._existing_lock:  # or another thread's item would overtake the creation
            if self._losses != self._connection.losses:
                # The server that comes back may have lost its nodes.
                self._losses = self._connection.losses
                self._existing.clear()
            if node in self._existing:
                return None
            created = self.create_node(node, configuration)
            error = created.exception() if created.done() else None
            if isinstance(error, QueueFull):
                return error
            self._existing[node] = None
            _forget_oldest(self._existing)
        created.add_done_callback(partial(self._created, node))
        return None

    def _request(self, item: Item) -> Future[str]:
        if item.is_retraction:
            assert item.id is not None
            return self._connection.request(stanzas.retract(self._service, item.node, item.id))
        request = stanzas.publish(self._service, item.node, item.payload, item.id)
        return self._connection.request(request)

    def _created(self, node: str, created: Future[None]) -> None:
        error = created.exception()
        if error is not None:
            logger.warning("Could not create the node %s: %s", node, error)
            self._forget(node)

    def _forget(self, node: str) -> None:
        with self._existing_lock:
            self._existing.pop(node, None)


def _forget_oldest(remembered: dict[Any, Any]) -> None:
    if len(remembered) > REMEMBERED:
        del remembered[next(iter(remembered))]
