"""What a changed row publishes: asks its Publication, and freezes items.

Whatever goes wrong here is told by ``publish_failed``; the save goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any

from django.db.models import Model

from pubsub.asking import fulfils, interval, make_items, places, row_of
from pubsub.items import CREATED, DELETED, UPDATED, Item, Place, make_retraction, next_number
from pubsub.publications import Publication
from pubsub.savepoints import sheltered
from pubsub.signals import publish_failed


def items_for(
    publication: Publication,
    instance: Model,
    event: str,
    written: Collection[str] | None = None,
    before: Sequence[Place] | None = None,
    sequence: int | None = None,
    is_reread: bool = False,
    only_left: bool = False,
) -> tuple[float | None, list[Item]]:
    """What an event publishes, frozen as the row is now; and the seconds between two updates.

    :param before: where the row belonged before; None where nobody knows.
    :param sequence, is_reread: see :class:`~pubsub.items.Item`; by default the next number.
    :param only_left: whether but the retractions from where the row left are wanted.
    :raises Exception: whatever the publication's hooks raise.
    """
    number = next_number() if sequence is None else sequence
    row = row_of(publication, instance, event, written)
    if event == DELETED:
        return None, _of_deleted(publication, row, before, number, is_reread)
    fulfilled = fulfils(publication, row, event)
    kept = places(publication, row, event) if fulfilled else []
    if event == CREATED:
        before = ()  # whoever reads at the commit finds nothing older
    if before is None and event == UPDATED and not fulfilled:
        # It may have been published while it was; a retraction of what is not there is no harm.
        before = places(publication, row, event)
    told = [] if only_left else kept
    items = make_items(publication, row, event, told, number, is_reread) if told else []
    for node, item_id in before or ():
        if item_id is not None and (node, item_id) not in kept:
            items.append(make_retraction(node, item_id, sequence=number, is_reread=is_reread))
    return interval(publication, row, event) if items else None, items


def places_before(publication: Publication, instance: Model, event: str) -> list[Place]:
    """Where a row belongs as it is now, for a change that is about to come."""
    using = instance._state.db
    with reporting(publication, instance.pk, event), shelter(publication, using):
        row = row_of(publication, instance, event)
        if fulfils(publication, row, event):
            return places(publication, row, event)
    return []


class reporting:  # noqa: N801 (a context manager, and quicker than a generator)
    """Tell of what goes wrong with the publication of a row, and go on.

    :param on_error: called with the error.
    """

    __slots__ = ("_event", "_on_error", "_pk", "_publication")

    def __init__(
        self,
        publication: Publication,
        pk: Any,
        event: str,
        on_error: Callable[[Exception], object] = lambda error: None,
    ) -> None:
        self._publication = publication
        self._pk = pk
        self._event = event
        self._on_error = on_error

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        model, pk, event = self._publication.model, self._pk, self._event
        # A save never fails because of us.
        tell_failed(f"{model._meta.label} {pk} ({event})", error, model=model, pk=pk, event=event)
        self._on_error(error)
        return True


def tell_failed(
    about: str,
    error: Exception,
    *,
    model: type[Model] | None = None,
    pk: Any = None,
    event: str | None = None,
) -> None:
    """Tell by ``publish_failed`` of what could not even become an item.

    :param about: what was to be published, in words.
    :param model, pk, event: the row, where it is a single one.
    """
    publish_failed.send_robust(
        Item, item=None, error=error, about=about, model=model, pk=pk, event=event
    )


def shelter(publication: Publication, using: str | None) -> AbstractContextManager[None]:
    """Keep a transaction from what the code of others does in it."""
    return sheltered(using) if publication.has_hooks else nullcontext()


# Private


def _of_deleted(
    publication: Publication,
    row: Model,
    before: Sequence[Place] | None,
    number: int,
    is_reread: bool,
) -> list[Item]:
    """The retractions of a row that is gone, wherever it may have been; in a log a last item."""
    if before is None:
        # It may have been published before the condition became untrue.
        before = places(publication, row, DELETED)
    if any(item_id is None for _, item_id in before) and not fulfils(publication, row, DELETED):
        before = [place for place in before if place[1] is not None]
    return make_items(publication, row, DELETED, before, number, is_reread)
