"""The backend that publishes to an XMPP server: the stair between Django's half and ``wire/``."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

from pubsub.backends.base import BaseBackend
from pubsub.conf import conf
from pubsub.items import Item, valid_node
from pubsub.wire import stanzas
from pubsub.wire.account import Account
from pubsub.wire.answers import PublishedItem, Subscription
from pubsub.wire.connection import Connection

logger = logging.getLogger("pubsub")

#: How many nodes are remembered as existing, so that they are not created again, and of how many
#: items the last state that was sent.
REMEMBERED = 10_000


class XMPPBackend(BaseBackend):
    """Turns items into stanzas and hands them to one connection."""

    manages_nodes = True

    def __init__(self) -> None:
        self._service = conf.pubsub_host
        self._node_defaults = conf.node_defaults
        self._connection = Connection(
            Account(
                jid=conf.jid,
                password=conf.password,
                host=conf.host,
                port=conf.port,
                tls=conf.tls,
                ca_file=conf.ca_file,
                timeout=conf.timeout,
            ),
            queue_size=conf.queue_size,
        )
        self._existing: dict[str, None] = {}  # in order of creation, to forget the oldest
        self._existing_lock = threading.Lock()
        self._latest: dict[tuple[str, str], tuple[int, Future[str] | None]] = {}
        self._latest_lock = threading.Lock()

    def send(self, item: Item) -> Future[str]:
        """Queue an item, unless a later state of it has gone out already.

        Two threads that commit one after the other may arrive here the other way round.  The
        database lets the second write only after the first has committed, so the item that was
        made later holds the later state.
        """
        if item.id is None:
            return self._request(item)
        key = (item.node, item.id)
        with self._latest_lock:
            sequence, future = self._latest.pop(key, (-1, None))
            if future is None or sequence < item.sequence:
                sequence, future = item.sequence, self._request(item)
            self._latest[key] = sequence, future
            _forget_oldest(self._latest)
        return future

    def ensure_node(self, node: str) -> None:
        with self._existing_lock:  # or another thread's item would overtake the creation
            if node in self._existing:
                return
            created = self.create_node(node, {})
            self._existing[node] = None
            _forget_oldest(self._existing)
        created.add_done_callback(partial(self._created, node))

    def close(self) -> None:
        self._connection.close()

    def create_node(self, node: str, configuration: Mapping[str, Any]) -> Future[None]:
        request = stanzas.create(
            self._service, valid_node(node), {**self._node_defaults, **configuration}
        )
        return self._connection.request(request)

    def configure_node(self, node: str, configuration: Mapping[str, Any]) -> Future[None]:
        return self._connection.request(
            stanzas.configure(self._service, valid_node(node), configuration)
        )

    def delete_node(self, node: str) -> Future[None]:
        self._forget(node)
        return self._connection.request(stanzas.delete(self._service, valid_node(node)))

    def get_configuration(self, node: str) -> Future[dict[str, str]]:
        return self._connection.request(stanzas.configuration(self._service, valid_node(node)))

    def get_items(self, node: str, max_items: int | None = None) -> Future[list[PublishedItem]]:
        request = stanzas.items(self._service, valid_node(node), max_items=max_items)
        return self._connection.request(request)

    def get_subscriptions(self, node: str) -> Future[list[Subscription]]:
        return self._connection.request(stanzas.subscriptions(self._service, valid_node(node)))

    def get_affiliations(self, node: str) -> Future[dict[str, str]]:
        return self._connection.request(stanzas.affiliations(self._service, valid_node(node)))

    # Private

    def _request(self, item: Item) -> Future[str]:
        if item.is_retraction:
            assert item.id is not None
            return self._connection.request(stanzas.retract(self._service, item.node, item.id))
        if item.node not in self._existing:
            # The server would create it by itself, but with a configuration of its own.
            self.ensure_node(item.node)
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
