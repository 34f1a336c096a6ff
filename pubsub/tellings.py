"""What became of a row, and as what it is told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from django.db.models import Model

from pubsub.changes import items_for
from pubsub.instances import primary_key
from pubsub.items import CREATED, DELETED, UPDATED, Item, Place
from pubsub.publications import Publication


class Telling(NamedTuple):
    """As what a change is told.

    :param only_left: whether but where the row left is told, because the event is not published.
    """

    event: str
    only_left: bool = False


class Change(NamedTuple):
    """What became of a row.

    :param using: alias of the database that it was changed in.
    :param written: the names of the fields that were saved; None means all.
    :param before: where the row belonged before the change; None where nobody knows.
    """

    publication: Publication
    instance: Model
    event: str
    using: str | None
    written: Collection[str] | None
    before: Sequence[Place] | None

    def key(self) -> tuple[Publication, str]:
        """Under which the row waits for the commit."""
        return self.publication, primary_key(self.instance)

    def told_as(self, outcome: str | None) -> Telling | None:
        """As what it is told that came to something together with the changes before it."""
        events = self.publication.events
        if self.event == CREATED and outcome == UPDATED and UPDATED not in events:
            outcome = CREATED  # that it was deleted before is not told, so it has to be
        if outcome is None:
            return None
        if outcome in events:
            return Telling(outcome)
        leaves = outcome == UPDATED and self.publication.may_leave
        return Telling(outcome, only_left=True) if leaves else None

    def is_read_at_commit(self, telling: Telling) -> bool:
        """Whether the row is read when all is committed: others may change what it relates to."""
        # Where nothing of it was written the instance knows nothing.
        reads = bool(self.publication.relations) or self.written == ()
        return reads and telling.event != DELETED

    def items(
        self, telling: Telling | None, *, is_reread: bool = False
    ) -> tuple[float | None, list[Item]]:
        """What is published; see :func:`~pubsub.changes.items_for`."""
        if telling is None:
            return None, []
        return items_for(
            self.publication,
            self.instance,
            telling.event,
            self.written,
            self.before,
            is_reread=is_reread,
            only_left=telling.only_left,
        )
