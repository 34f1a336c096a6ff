"""What a site does with its outbox by hand: look how full it is, send again, throw away.

A relay may be sending the same rows meanwhile, so each of these is one statement, which looks at
the states itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.db.models import Case, Count, Min, QuerySet, Value, When
from django.utils import timezone

from pubsub.models import OutboxItem, State

#: What a relay goes on with by itself, without having failed yet.
FRESH = (State.UNREAD, State.WAITING)

#: What has failed: it is sent later, or not again by itself.
FAILED = (State.LATER, State.REFUSED)

#: What the server has not acknowledged.
UNSENT = (*FRESH, *FAILED)


@dataclass(frozen=True)
class Status:
    """How full an outbox is.

    :param waiting: how many rows are to be read or sent.
    :param later: how many have failed and are to be sent later.
    :param refused: how many are set aside.
    :param lag: for how many seconds the oldest of those that are waiting has been; 0 without any.
    """

    waiting: int
    later: int
    refused: int
    lag: float

    def __str__(self) -> str:
        words = f"{self.waiting} waiting, {self.later} later, {self.refused} set aside"
        return f"{words}; lag {self.lag:.1f} s"


def status(using: str | None = None) -> Status:
    """How full the outbox of a database is.

    :param using: its alias; the default one's otherwise.
    """
    rows = OutboxItem.objects.using(using).filter(state__in=UNSENT).order_by()
    found = rows.values_list("state").annotate(Count("id"), Min("at"))
    counts = {state: count for state, count, _ in found}
    oldest = min((at for state, _, at in found if state in FRESH), default=None)
    return Status(
        waiting=sum(counts.get(state, 0) for state in FRESH),
        later=counts.get(State.LATER, 0),
        refused=counts.get(State.REFUSED, 0),
        lag=max(0.0, (timezone.now() - oldest).total_seconds()) if oldest else 0.0,
    )


def retry(queryset: QuerySet[OutboxItem]) -> int:
    """Let the relay try again what has failed, as if for the first time.

    :returns: how many of the rows that was; those that have not failed are left alone.
    """
    # What had to be read first is read again: the row may have changed since.  The others are left
    # to a relay that holds their lane: it may be sending a later state at this moment.
    state = Case(When(change__isnull=False, then=Value(State.UNREAD)), default=State.LATER)
    failed = queryset.order_by().filter(state__in=FAILED)
    return failed.update(state=state, tries=0, due=timezone.now(), error="")


def discard(queryset: QuerySet[OutboxItem]) -> int:
    """Throw away what was not sent; what it tells of stays unsaid until the next change.

    :returns: how many of the rows that was; those that were acknowledged are left alone.
    """
    # delete() would read the rows first where somebody hears of deletions, and then delete what
    # may have been sent meanwhile.
    unsent = queryset.order_by().filter(state__in=UNSENT)
    return unsent._raw_delete(unsent.db)
