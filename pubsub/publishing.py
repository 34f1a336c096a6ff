"""publish and retract: now, or when the transaction commits; hands Items to the backend."""

from __future__ import annotations

import weakref
from concurrent.futures import Future
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Model

from pubsub.backends import get_backend
from pubsub.futures import follow
from pubsub.items import Item, ItemId, make_item, make_retraction
from pubsub.signals import item_published, publish_failed


def publish(
    node: str, item: Any, *, item_id: ItemId | None = None, using: str | None = None
) -> Future[str]:
    """Publish anything to any node (XEP-0060 §7.1), without waiting for the network.

    The item is frozen as it is now.  Inside a transaction it is sent when the transaction
    commits; a rollback cancels the Future.

    :param node: the node's name; it is created when it does not exist.
    :param item: text, a dict or list (sent as JSON), an xml.etree Element, or a model instance.
    :param item_id: text, a number or a UUID; overwrites the item of that id.  By default an
        instance's primary key, and a new id from the server for everything else.
    :param using: database alias whose transaction to wait for; by default the instance's own, and
        the default database for everything else.
    :returns: a Future of the item's id, resolved when the server has acknowledged it; it fails
        with a PubSubError.
    :raises InvalidItem: for a node, an id or a payload that cannot be put on the wire.
    :raises TypeError: for a payload of another type.
    """
    if using is None and isinstance(item, Model):
        using = item._state.db
    return announce(make_item(node, item, id=item_id), using)


def retract(node: str, item_id: ItemId, *, using: str | None = None) -> Future[str]:
    """Take an item off a node and tell the subscribers (XEP-0060 §7.2).

    :param item_id: the item's id; one that is not there counts as retracted.
    :param using: as for :func:`publish`.
    :returns: a Future of the id, as :func:`publish` does.
    :raises InvalidItem: for a node or an id that cannot be put on the wire.
    """
    return announce(make_retraction(node, item_id), using)


def announce(item: Item, using: str | None) -> Future[str]:
    """Send an item when the transaction of a database, if there is one, has committed.

    :param using: database alias; None means the default one.
    :raises TransactionManagementError: when its autocommit is switched off.
    """
    connection = transaction.get_connection(using)
    # Without autocommit Django cannot tell us of the commit, and its on_commit() says so.
    manual = connection.connection is not None and not connection.autocommit
    if not (connection.in_atomic_block or manual):
        return _send(item)
    future: Future[str] = Future()
    deferred = _Deferred(item, future)
    # Django drops its callbacks on a rollback, of a savepoint too; nothing else holds this one.
    weakref.finalize(deferred, future.cancel).atexit = False
    transaction.on_commit(deferred, using=using, robust=True)
    return future


# Private


class _Deferred:
    """Sends an item when Django calls it after the commit, and settles the caller's Future."""

    def __init__(self, item: Item, future: Future[str]) -> None:
        self._item = item
        self._future = future

    def __call__(self) -> None:
        if not self._future.set_running_or_notify_cancel():
            return  # the caller has changed his mind
        try:
            follow(self._future, _send(self._item))
        except Exception as error:  # noqa: BLE001 (no backend; nobody is left to raise to)
            self._future.set_exception(error)
            _report(self._item, self._future)


def _send(item: Item) -> Future[str]:
    future = get_backend().send(item)
    future.add_done_callback(partial(_report, item))
    return future


def _report(item: Item, future: Future[str]) -> None:
    if future.cancelled():
        return
    error = future.exception()
    if error is None:
        item_published.send_robust(Item, item=item, item_id=future.result())
    else:
        about = f"{item.id or 'an item'} on {item.node} ({item.event})"
        publish_failed.send_robust(Item, item=item, error=error, about=about)
