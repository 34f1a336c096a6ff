"""Writes down in the outbox what became of the rows that were sent."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from pubsub.items import Place
from pubsub.models import OutboxItem, State
from pubsub.relay.lanes import Stripe
from pubsub.relay.outcomes import pause_after
from pubsub.relay.pauses import place_of


class Notes:
    """Changes the states of rows in lanes that are held."""

    def __init__(self, stripe: Stripe) -> None:
        self._stripe = stripe

    @property
    def rows(self) -> QuerySet[OutboxItem]:
        """All rows."""
        return OutboxItem._base_manager.using(self._stripe.using)

    def sent(self, rows: list[OutboxItem]) -> None:
        """These were acknowledged."""
        if rows:
            pks = [row.pk for row in rows]
            self.rows.filter(pk__in=pks).update(state=State.SENT, sent=Now(), error="")
            self._supersede(rows)

    def held_back(self, rows: list[OutboxItem]) -> None:
        """These are sent when they are due."""
        for row in rows:
            self.rows.filter(pk=row.pk).update(state=State.LATER, due=row.due)
        self._supersede(rows)

    def put_off(self, row: OutboxItem, error: BaseException) -> timedelta:
        """This one has failed, and is tried again; returns after how long."""
        pause = pause_after(row.tries + 1)
        self.rows.filter(pk=row.pk).update(
            state=State.LATER,
            due=timezone.now() + pause,
            tries=F("tries") + 1,
            error=words(error),
        )
        return pause

    def set_aside(self, row: OutboxItem, error: BaseException) -> None:
        """This one has failed for good."""
        self.rows.filter(pk=row.pk).update(
            state=State.REFUSED, tries=F("tries") + 1, error=words(error)
        )

    def remove(self, pks: list[int]) -> None:
        """These are obsolete."""
        if pks:
            self.rows.filter(pk__in=pks)._raw_delete(self._stripe.using)

    # Private

    def _supersede(self, rows: Iterable[OutboxItem]) -> None:
        """Remove older states of these items that were put off or set aside."""
        latest: dict[Place, int] = {place_of(row): row.pk for row in rows}
        aside = self._stripe.items().filter(state__in=[State.LATER, State.REFUSED])
        if not (latest and aside.exists()):
            return
        ids = {item_id for _, item_id in latest}
        found = aside.filter(item_id__in=ids).values_list("pk", "node", "item_id")
        self.remove([pk for pk, node, id in found if pk < latest.get((node, id), 0)])


def words(error: BaseException) -> str:
    """An error as the admin shows it."""
    return str(error) or repr(error)
