"""The backend that sends nothing: items become rows of the outbox, which ``pubsub_relay`` sends.

A row is written in the transaction of what it tells of.  What concerns the nodes on the server is
asked of the server, through PUBSUB_RELAY_BACKEND.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Any, NamedTuple, TypedDict

from django.core.exceptions import ImproperlyConfigured
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils import timezone

from pubsub.backends import import_backend
from pubsub.backends.base import BaseBackend
from pubsub.conf import conf
from pubsub.futures import resolved
from pubsub.items import Item, Place, lane_of
from pubsub.models import OutboxItem, State
from pubsub.spool import CHUNK
from pubsub.wire.answers import PublishedItem, Subscription
from pubsub.wire.events import EventStream
from pubsub.wire.fanout import FanoutStatus
from pubsub.wire.guard import GuardStatus


class Change(TypedDict):
    """What became of a row that the relay reads, when it is committed, and makes items of.

    :param publication, model: labels of the registered model, and of the row's own.
    :param pk: the primary key, as JSON has it.
    :param before: where the row belonged before; None where nobody knows.
    :param origin: who has caused it.
    :param only_left: whether but where the row left is told.
    :param by_hand: whether somebody asked for it, whatever ``throttle`` says.
    """

    publication: str
    model: str
    pk: Any
    event: str
    before: list[Place] | None
    origin: str
    only_left: bool
    by_hand: bool


class Written(NamedTuple):
    """A row that was written.

    :param pk: None where the database does not tell.
    :param place: where its item is; None of a change.
    """

    pk: int | None
    place: Place | None
    is_retraction: bool


class OutboxBackend(BaseBackend):
    """Writes items into the database that they are about."""

    is_outbox = True
    manages_nodes = True

    def __init__(self) -> None:
        self._server: BaseBackend | None = None
        self._server_lock = threading.Lock()

    @classmethod
    def for_relay(cls) -> BaseBackend:
        raise ImproperlyConfigured(
            f"PUBSUB_RELAY_BACKEND = {conf.relay_backend!r} only fills the outbox; it has to be "
            "the one that sends, such as 'pubsub.backends.xmpp.XMPPBackend'."
        )

    def send(self, item: Item) -> Future[str]:
        """Write an item into the default database; see :meth:`write`."""
        (written,) = self.write([item], None)
        assert written.place is not None
        return resolved(written.place[1] or "")

    def write(
        self, items: Iterable[Item], using: str | None, interval: float | None = None
    ) -> list[Written]:
        """Write items, in the transaction that there is.

        :param using: alias of the database that they are about; None means the default one.
        :param interval: seconds between two updates of an item.
        :raises django.db.Error: when they cannot be written: whoever saves has to know.
        """
        return _insert((_row(item, interval) for item in items), using)

    def write_changes(self, changes: Iterable[Change], using: str | None) -> list[Written]:
        """Write what became of rows that will be read when they are committed."""
        return _insert(map(_row_of_change, changes), using)

    def take_back(self, pks: Sequence[int], using: str | None) -> None:
        """Remove rows that were written in the same transaction."""
        if pks:
            alias = using or DEFAULT_DB_ALIAS
            OutboxItem._base_manager.using(alias).filter(pk__in=pks)._raw_delete(alias)

    def close(self, timeout: float | None = None) -> None:
        if self._server is not None:
            self._server.close(timeout)

    def resolves_here(self) -> bool:
        return self._server is not None and self._server.resolves_here()

    def ensure_node(self, node: str, configuration: Mapping[str, Any]) -> None:
        self._relayed.ensure_node(node, configuration)

    def create_node(self, node: str, configuration: Mapping[str, Any]) -> Future[None]:
        return self._relayed.create_node(node, configuration)

    def configure_node(self, node: str, configuration: Mapping[str, Any]) -> Future[None]:
        return self._relayed.configure_node(node, configuration)

    def delete_node(self, node: str) -> Future[None]:
        return self._relayed.delete_node(node)

    def get_configuration(self, node: str) -> Future[dict[str, str]]:
        return self._relayed.get_configuration(node)

    def get_items(self, node: str, max_items: int | None = None) -> Future[list[PublishedItem]]:
        return self._relayed.get_items(node, max_items)

    def count_items(self, node: str) -> Future[int]:
        return self._relayed.count_items(node)

    def get_subscriptions(self, node: str) -> Future[list[Subscription]]:
        return self._relayed.get_subscriptions(node)

    def set_subscriptions(self, node: str, states: Mapping[str, str]) -> Future[None]:
        return self._relayed.set_subscriptions(node, states)

    def get_affiliations(self, node: str) -> Future[dict[str, str]]:
        return self._relayed.get_affiliations(node)

    def set_affiliations(self, node: str, affiliations: Mapping[str, str]) -> Future[None]:
        return self._relayed.set_affiliations(node, affiliations)

    def get_nodes(self) -> Future[list[str]]:
        return self._relayed.get_nodes()

    def end_sessions(self, jid: str, before: float, session: str | None = None) -> Future[None]:
        return self._relayed.end_sessions(jid, before, session)

    def guard_status(self) -> Future[GuardStatus]:
        return self._relayed.guard_status()

    def fanout_status(self) -> Future[FanoutStatus]:
        return self._relayed.fanout_status()

    def listen(
        self, nodes: Iterable[str], report: Callable[[str], None] | None = None
    ) -> EventStream:
        return self._relayed.listen(nodes, report)

    # Private

    @property
    def _relayed(self) -> BaseBackend:
        """The server, for what is no item; opened when it is needed."""
        with self._server_lock:
            if self._server is None:
                self._server = import_backend(conf.relay_backend, "PUBSUB_RELAY_BACKEND")()
            return self._server


def _row(item: Item, interval: float | None) -> OutboxItem:
    return OutboxItem(
        lane=lane_of(item.node),
        node=item.node,
        # One of its own, so that what is sent again after a crash overwrites.
        item_id=item.id or uuid.uuid4().hex,
        event=item.event,
        payload=item.payload,
        at=item.at if timezone.is_aware(timezone.now()) else timezone.make_naive(item.at),
        configuration=_as_json(item.configuration),
        # Two transactions that publish on one id by hand may commit in another order.
        is_numbered=item.is_own or item.id is None,
        interval=interval,
    )


def _row_of_change(change: Change) -> OutboxItem:
    return OutboxItem(
        state=State.UNREAD,
        # What becomes of one row is read in order.
        lane=lane_of(f"{change['publication']} {change['pk']}"),
        event=change["event"],
        at=timezone.now(),
        change=_as_json(change),
    )


def _as_json(value: Mapping[str, Any]) -> Any:
    """Values as they come out of JSON again; a text where it has none."""
    encoder = DjangoJSONEncoder()

    def default(other: Any) -> Any:
        try:
            return encoder.default(other)
        except TypeError:
            return str(other)

    return json.loads(json.dumps(value, default=default)) if value else {}


def _insert(rows: Iterable[OutboxItem], using: str | None) -> list[Written]:
    alias = using or DEFAULT_DB_ALIAS
    written: list[Written] = []
    rows = iter(rows)
    while chunk := list(islice(rows, CHUNK)):
        tells = connections[alias].features.can_return_rows_from_bulk_insert
        if len(chunk) == 1 or not (tells or chunk[0].change):
            for row in chunk:  # nobody listens to its signals
                row.save_base(raw=True, force_insert=True, using=alias)
        else:
            OutboxItem._base_manager.using(alias).bulk_create(chunk)
        written += [_written(row) for row in chunk]
    return written


def _written(row: OutboxItem) -> Written:
    is_change = row.change is not None
    place = None if is_change else (row.node, row.item_id)
    return Written(row.pk, place, not (is_change or row.payload))
