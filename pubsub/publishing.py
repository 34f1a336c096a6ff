"""publish and retract: now, or when the transaction commits; hands Items to the backend."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.db import router
from django.db.models import Model
from django.db.transaction import TransactionManagementError

from pubsub import nodes
from pubsub.backends import get_backend, get_outbox
from pubsub.commits import Promise, is_of_test_case, on_commit, waits_for_commit
from pubsub.futures import follow, resolved
from pubsub.items import Item, ItemId, make_item, make_retraction
from pubsub.signals import item_published, publish_failed
from pubsub.throttling import throttle

if TYPE_CHECKING:  # its models cannot be imported before Django is ready
    from pubsub.backends.outbox import OutboxBackend, Written


def publish(
    node: str, item: Any, *, item_id: ItemId | None = None, using: str | None = None
) -> Future[str]:
    """Publish anything to any node (XEP-0060 §7.1), without waiting for the network.

    The item is frozen as it is now.  Inside a transaction it is sent when the transaction
    commits; a rollback cancels the Future.

    :param node: the node's name; it is created when it does not exist.
    :param item: text, a dict or list (sent as JSON), an xml.etree Element, or a model instance.
    :param item_id: text, a number or a UUID; overwrites the item of that id.  By default an
        instance's primary key, and a new id for everything else.
    :param using: database alias whose transaction to wait for; by default the instance's own, and
        the default database for everything else.
    :returns: a Future of the item's id, resolved when the server has acknowledged it, with the
        outbox when it is there for good; it fails with a PubSubError.  While the server is away it
        waits: give ``result()`` a timeout.
    :raises InvalidItem: for a node, an id or a payload that cannot be put on the wire.
    :raises TypeError: for a payload of another type.
    """
    return announce(*_prepared(node, item, item_id, using))


async def apublish(
    node: str, item: Any, *, item_id: ItemId | None = None, using: str | None = None
) -> str:
    """Publish as :func:`publish` does, and await the server's acknowledgement.

    :returns: the item's id.
    :raises TransactionManagementError: inside a transaction, whose commit could never come while
        it is awaited; ``publish()`` works there.
    :raises PubSubError: what the Future of :func:`publish` would fail with.
    """
    prepared, alias = await sync_to_async(_prepared)(node, item, item_id, using)
    return await asyncio.wrap_future(await sync_to_async(_at_once)(prepared, alias, "apublish"))


def retract(node: str, item_id: ItemId, *, using: str | None = None) -> Future[str]:
    """Take an item off a node and tell the subscribers (XEP-0060 §7.2).

    :param item_id: the item's id; one that is not there counts as retracted.
    :param using: as for :func:`publish`.
    :returns: a Future of the id, as :func:`publish` does.
    :raises InvalidItem: for a node or an id that cannot be put on the wire.
    """
    return announce(make_retraction(node, item_id), using)


async def aretract(node: str, item_id: ItemId, *, using: str | None = None) -> str:
    """Retract as :func:`retract` does, and await the server's acknowledgement.

    :returns: the item's id.
    :raises TransactionManagementError, PubSubError: as :func:`apublish` does.
    """
    item = make_retraction(node, item_id)
    return await asyncio.wrap_future(await sync_to_async(_at_once)(item, using, "aretract"))


def announce(item: Item, using: str | None) -> Future[str]:
    """Send an item when the transaction of a database, if there is one, has committed.

    With the outbox it is written within the transaction, and the Future knows that it is there.

    :param using: database alias; None means the default one.
    :raises TransactionManagementError: when its autocommit is switched off.
    """
    waits = waits_for_commit(using)
    future: Future[str] = Future()
    outbox = get_outbox()
    if outbox is not None:
        return _kept(outbox, item, using, future if waits else None)
    if not waits:
        return _send_by_hand(item)
    on_commit(_Deferred(item, future), using)
    return future


def send(item: Item) -> Future[str]:
    """Hand an item to the backend, and tell by signals what became of it.

    :returns: a Future of the item's id.
    :raises ImproperlyConfigured: when PUBSUB_BACKEND names no backend.
    """
    return reported(item, get_backend().send(item))


def reported(item: Item, future: Future[str]) -> Future[str]:
    """The Future of an item that the backend has taken; signals tell of it, too."""
    if future.done():
        _report(item, future)
    else:
        future.add_done_callback(partial(_report, item))
    return future


def deliver(item: Item, interval: float | None = None) -> None:
    """Send an item without anybody waiting for the outcome; only signals tell of it.

    :param interval: seconds between two updates of the item; see :mod:`pubsub.throttling`.
    """
    if item.id is None:
        _deliver(item)
    else:
        throttle.pass_on(item, interval, _deliver)


def report_success(item: Item, item_id: str) -> None:
    """Tell by ``item_published`` that the server has acknowledged an item."""
    item_published.send_robust(Item, item=item, item_id=item_id)


def report_failure(item: Item, error: BaseException) -> None:
    """Tell by ``publish_failed`` that an item was not published, and why."""
    about = f"{item.id or 'an item'} on {item.node} ({item.event})"
    publish_failed.send_robust(
        Item, item=item, error=error, about=about, model=None, pk=None, event=None
    )


# Private


class _Deferred(Promise[str]):
    """Sends an item when the transaction has committed."""

    def __init__(self, item: Item, future: Future[str]) -> None:
        super().__init__(future)
        self._item = item

    def keep_it(self) -> None:
        try:
            follow(self._future, _send_by_hand(self._item))
        except Exception as error:  # noqa: BLE001 (no backend; nobody is left to raise to)
            self._future.set_exception(error)
            _report(self._item, self._future)


class _InOutbox(Promise[str]):
    """Tells that the outbox has got an item for good."""

    item_id = ""

    def keep_it(self) -> None:
        self._future.set_result(self.item_id)


def _kept(
    outbox: OutboxBackend, item: Item, using: str | None, future: Future[str] | None
) -> Future[str]:
    """Write an item into the outbox.

    :param future: of the transaction that it is written in; None where there is none.
    """
    if future is None:
        return resolved(_id_of(outbox.write([item], using)))
    promise = _InOutbox(future)
    try:
        on_commit(promise, using)
        promise.item_id = _id_of(outbox.write([item], using))
    except Exception:
        del promise  # who keeps the traceback would keep it alive after a rollback, too
        raise
    return future


def _id_of(written: list[Written]) -> str:
    (row,) = written
    assert row.place is not None
    assert row.place[1] is not None
    return row.place[1]


def _prepared(
    node: str, item: Any, item_id: ItemId | None, using: str | None
) -> tuple[Item, str | None]:
    """An item that is published by hand, and the database whose transaction it belongs to."""
    if using is None and isinstance(item, Model):
        using = router.db_for_write(type(item), instance=item)
    configuration = nodes.declared(node)
    return make_item(node, item, id=item_id, configuration=configuration), using


def _at_once(item: Item, using: str | None, caller: str) -> Future[str]:
    if waits_for_commit(using) and not is_of_test_case(using):
        raise TransactionManagementError(
            f"{caller}() waits for the server, and inside a transaction the server would hear of "
            f"it after the commit only: call {caller[1:]}() here, or {caller}() after the commit"
        )
    outbox = get_outbox()
    return _send_by_hand(item) if outbox is None else _kept(outbox, item, using, None)


def _send_by_hand(item: Item) -> Future[str]:
    """Send an item at once; what is held back of it is older."""
    throttle.forget(item)
    return send(item)


def _deliver(item: Item) -> None:
    try:
        send(item)
    except Exception as error:  # noqa: BLE001 (no backend; nobody is left to raise to)
        report_failure(item, error)


def _report(item: Item, future: Future[str]) -> None:
    if future.cancelled():
        return
    error = future.exception()
    if error is None:
        report_success(item, future.result())
    else:
        report_failure(item, error)
