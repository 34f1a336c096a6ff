"""The backend that publishes to an XMPP server: the stair between Django's half and ``wire/``."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from pubsub.backends.base import BaseBackend
from pubsub.backends.latest import Latest
from pubsub.conf import conf
from pubsub.exceptions import InvalidNode, RequestRefused
from pubsub.futures import follow
from pubsub.items import (
    Item,
    lane_of,
    next_number,
    now,
    valid_configuration,
    valid_node,
)
from pubsub.payloads import check_xml, marked, shortened, tombstone
from pubsub.wire import fanout, guard, stanzas
from pubsub.wire.account import Account
from pubsub.wire.answers import PublishedItem, Subscription
from pubsub.wire.connection import Connection, close_all
from pubsub.wire.events import EventStream
from pubsub.wire.fanout import FanoutStatus
from pubsub.wire.guard import GuardStatus
from pubsub.wire.listening import Listener

T = TypeVar("T")

logger = logging.getLogger("pubsub")


class XMPPBackend(BaseBackend):
    """Turns items into stanzas and hands them to its connections.

    What it has taken it keeps in memory while the server is away, and sends it in order when it is
    back; after a lost acknowledgement once more, which overwrites.

    :param keeps: False for who relays: see :meth:`for_relay`.
    """

    manages_nodes = True

    def __init__(self, *, keeps: bool = True) -> None:
        self._service = conf.pubsub_host
        self._user_domain = conf.user_domain
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
        self._connections = [
            Connection(self._account, queue_size=conf.queue_size, keeps=keeps)
            for _ in range(conf.connections)
        ]
        self._keeps = keeps
        # Who relays marks by himself, with numbers that outlive this process.
        self._mark = marked if keeps else None
        self._ensuring: set[str] = set()
        self._ensuring_lock = threading.Lock()
        self._latest = Latest()

    @classmethod
    def for_relay(cls) -> XMPPBackend:
        return cls(keeps=False)

    def send(self, item: Item) -> Future[str]:
        # All that can wait for it is done in the thread that owns the stream.
        return self._of(item.node).draft(partial(self._draft, item, next_number()))

    def send_all(self, items: Sequence[Item], stream: str = "") -> list[Future[str]]:
        if not items:
            return []
        requests = [self._request_for(item) for item in items]
        return self._of(items[0].node).request_all(requests, stream)

    def retract_again(self, node: str, item_id: str) -> Future[str]:
        # ejabberd 23.01, killed while an item is published, may have it, and not in the list of
        # what its publisher has there: then it can be overwritten, and never be retracted.
        outcome: Future[str] = Future()
        outcome.set_running_or_notify_cancel()
        found = self._request(node, stanzas.items(self._service, node, item_ids=[item_id]))
        found.add_done_callback(partial(self._retract_found, node, item_id, outcome))
        return outcome

    def sign_of_life(self, lane: int) -> Future[str]:
        return self._of_lane(lane).sign_of_life(self._service)

    def trouble(self) -> BaseException | None:
        return next(filter(None, (each.trouble for each in self._connections)), None)

    def resolves_here(self) -> bool:
        return any(connection.is_owner for connection in self._connections)

    def ensure_node(self, node: str, configuration: Mapping[str, Any]) -> None:
        with self._ensuring_lock:
            if self._of(node).knows(node) or node in self._ensuring:
                return
            self._ensuring.add(node)
        try:
            created = self.create_node(node, configuration)
        except BaseException:
            self._ensured(node)
            raise
        created.add_done_callback(partial(self._ensured, node))

    def close(self, timeout: float | None = None) -> None:
        close_all(self._connections, timeout)

    def create_node(self, node: str, configuration: Mapping[str, Any]) -> Future[None]:
        return self._request(node, self._creation(valid_node(node), configuration))

    def configure_node(self, node: str, configuration: Mapping[str, Any]) -> Future[None]:
        fields = valid_configuration(configuration)
        request = stanzas.configure(self._service, valid_node(node), fields)
        return self._request(node, self._as_subscriber(request, node, fields))

    def delete_node(self, node: str) -> Future[None]:
        return self._request(node, stanzas.delete(self._service, valid_node(node)))

    def get_configuration(self, node: str) -> Future[dict[str, str]]:
        return self._request(node, stanzas.configuration(self._service, valid_node(node)))

    def get_items(self, node: str, max_items: int | None = None) -> Future[list[PublishedItem]]:
        request = stanzas.items(self._service, valid_node(node), max_items=max_items)
        return self._request(node, request)

    def count_items(self, node: str) -> Future[int]:
        return self._request(node, stanzas.count(self._service, valid_node(node)))

    def get_subscriptions(self, node: str) -> Future[list[Subscription]]:
        return self._request(node, stanzas.subscriptions(self._service, valid_node(node)))

    def set_subscriptions(self, node: str, states: Mapping[str, str]) -> Future[None]:
        for jid, state in states.items():
            check_xml(f"{jid}={state}", f"the subscription of {shortened(jid)}")
        request = stanzas.set_subscriptions(self._service, valid_node(node), states)
        return self._request(node, request)

    def get_affiliations(self, node: str) -> Future[dict[str, str]]:
        return self._request(node, stanzas.affiliations(self._service, valid_node(node)))

    def set_affiliations(self, node: str, affiliations: Mapping[str, str]) -> Future[None]:
        for jid, affiliation in affiliations.items():
            check_xml(f"{jid}={affiliation}", f"the affiliation of {shortened(jid)}")
        request = stanzas.set_affiliations(self._service, valid_node(node), affiliations)
        return self._request(node, request)

    def get_nodes(self) -> Future[list[str]]:
        return self._connections[0].request(stanzas.own_nodes(self._service))

    def end_sessions(self, jid: str, before: float, session: str | None = None) -> Future[None]:
        check_xml(f"{jid}{session or ''}", f"the session of {shortened(jid)}")
        user, _at, domain = jid.rpartition("@")
        request = guard.end_sessions(domain, user, before, session)
        return self._connections[0].request(request)

    def guard_status(self) -> Future[GuardStatus]:
        return self._connections[0].request(guard.status(self._user_domain))

    def fanout_status(self) -> Future[FanoutStatus]:
        return self._connections[0].request(fanout.status(self._service))

    def listen(
        self, nodes: Iterable[str], report: Callable[[str], None] | None = None
    ) -> EventStream:
        names = [valid_node(node) for node in nodes]
        if not names:
            raise InvalidNode("there is no node to listen to; name at least one")
        return Listener(self._account, self._service, names, report=report or logger.warning)

    # Private

    def _of(self, node: str) -> Connection:
        """The connection that all requests of a node go by, so that they keep their order."""
        if len(self._connections) == 1:
            return self._connections[0]
        return self._of_lane(lane_of(node))

    def _of_lane(self, lane: int) -> Connection:
        return self._connections[lane % len(self._connections)]

    def _request(self, node: str, request: stanzas.Request[T]) -> Future[T]:
        return self._of(node).request(request)

    def _draft(self, item: Item, number: int, future: Future[str]) -> stanzas.Request[str] | None:
        """The request that sends an item, unless a later state of it has gone out already."""
        is_state = item.id is not None and item.sequence is not None
        if is_state and not self._latest.admits(item, number, future):
            return None
        return self._request_for(item)

    def _request_for(self, item: Item) -> stanzas.Request[str]:
        if item.is_retraction:
            assert item.id is not None
            retraction = stanzas.retract(self._service, item.node, item.id)
            # Who relays wants to know whether it was there.
            return retraction if self._keeps else replace(retraction, done_when=frozenset())
        return stanzas.publish(
            self._service,
            item.node,
            item.payload,
            # One from the server would be another one when it has to be sent again.
            item.id or uuid.uuid4().hex,
            mark=self._mark,
            # The server would create the node by itself, but with a configuration of its own.
            prepare=partial(self._creation, item.node, item.configuration),
        )

    def _retract_found(
        self,
        node: str,
        item_id: str,
        outcome: Future[str],
        found: Future[list[PublishedItem]],
    ) -> None:
        error = found.exception()
        is_gone = isinstance(error, RequestRefused) and error.condition == "item-not-found"
        if error is not None and not is_gone:
            outcome.set_exception(error)
            return
        if not is_gone and found.result():
            self._request(node, stanzas.publish(self._service, node, tombstone(now()), item_id))
        follow(outcome, self._request(node, stanzas.retract(self._service, node, item_id)))

    def _creation(self, node: str, configuration: Mapping[str, Any]) -> stanzas.Request[None]:
        fields = valid_configuration({**self._node_defaults, **configuration})
        return self._as_subscriber(stanzas.create(self._service, node, fields), node, fields)

    def _as_subscriber(
        self, request: stanzas.Request[None], node: str, fields: Mapping[str, Any]
    ) -> stanzas.Request[None]:
        """Where subscribers publish ejabberd lets nobody else, the owner neither (as of 23.01).

        Events are for those of his streams that have sent presence; no stream of ours does.
        """
        if fields.get("publish_model") != "subscribers":
            return request
        states = {self._account.jid: "subscribed"}
        return replace(request, also=stanzas.set_subscriptions(self._service, node, states))

    def _ensured(self, node: str, created: Future[None] | None = None) -> None:
        with self._ensuring_lock:
            self._ensuring.discard(node)
        error = None if created is None or created.cancelled() else created.exception()
        if error is not None:
            logger.warning("Could not create the node %s: %s", node, error)
