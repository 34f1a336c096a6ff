"""Lanes: who holds one is the only one who reads, sends and removes what is in it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import connections, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet, Subquery

from pubsub.items import LANES
from pubsub.models import OutboxItem, OutboxLane

#: So many lanes are held at once; the others are left to other relays.
AT_ONCE = 16


@dataclass(frozen=True)
class Stripe:
    """The lanes of one stream.

    :param using: alias of the database.
    :param number: of the stream, from 0.
    :param count: how many streams there are.
    """

    using: str
    number: int = 0
    count: int = 1

    @property
    def lanes(self) -> list[int]:
        """The numbers of its lanes."""
        return list(range(self.number, LANES, self.count))

    @property
    def can_share(self) -> bool:
        """Whether the database has locks on rows, so that several relays can divide the work."""
        return bool(connections[self.using].features.has_select_for_update)

    def items(self) -> QuerySet[OutboxItem]:
        """What is in its lanes, or was."""
        rows = OutboxItem._base_manager.using(self.using)
        return rows if self.count == 1 else rows.filter(lane__in=self.lanes)


def open_lanes(using: str) -> None:
    """See to it that all lanes are there; the tests of projects empty the tables."""
    OutboxLane._base_manager.using(using).bulk_create(
        [OutboxLane(id=number, source=secrets.token_hex(6)) for number in range(LANES)],
        ignore_conflicts=True,
    )


@contextmanager
def held(stripe: Stripe, wanted: Q, limit: int = AT_ONCE) -> Iterator[dict[int, str]]:
    """Hold lanes, those with the oldest rows first, that nobody else holds.

    A transaction lasts as long as the block; where a database knows no locks on rows there is one
    relay only, and no transaction.

    :param wanted: which rows a lane must have.
    :param limit: so many lanes at most.
    :returns: the numbers of the lanes, with their sources.
    """
    rows = OutboxItem._base_manager.using(stripe.using).filter(wanted, lane=OuterRef("pk"))
    ours = Q() if stripe.count == 1 else Q(pk__in=stripe.lanes)
    lanes = (
        OutboxLane._base_manager.using(stripe.using)
        .filter(ours, Exists(rows))
        .order_by(Subquery(rows.order_by("id").values("id")[:1]), "pk")
    )
    if not stripe.can_share:
        yield dict(lanes.values_list("pk", "source")[:limit])
        return
    connection = connections[stripe.using]
    skip = connection.features.has_select_for_update_skip_locked
    with transaction.atomic(using=stripe.using):
        if connection.vendor == "mysql":
            # InnoDB locks all that it looks at, before it heeds the limit.
            yield _one_by_one(lanes, limit, skip_locked=skip)
        else:
            locked = lanes.select_for_update(skip_locked=skip)
            yield dict(locked.values_list("pk", "source")[:limit])


def _one_by_one(lanes: QuerySet[OutboxLane], limit: int, *, skip_locked: bool) -> dict[int, str]:
    """Lock lanes by their keys, until there are enough."""
    found: dict[int, str] = {}
    for pk in list(lanes.values_list("pk", flat=True)):
        lane = OutboxLane._base_manager.using(lanes.db).filter(pk=pk)
        found |= dict(lane.select_for_update(skip_locked=skip_locked).values_list("pk", "source"))
        if len(found) >= limit:
            break
    return found


def in_order(rows: QuerySet[OutboxItem], lanes: dict[int, str], limit: int) -> Iterator[OutboxItem]:
    """The oldest rows of each lane, as they stand in the index."""
    share = max(1, limit // max(1, len(lanes)))
    for lane in lanes:
        yield from rows.filter(lane=lane).order_by(F("id").asc())[:share]
