"""Changed rows become items: each is read when it is committed, and what it publishes is written.

A row is locked meanwhile, so that what somebody else makes of it comes after what is written here.
Rows that others have locked are left for later: the relay waits for nobody, so that nobody can
wait for it in a circle.
"""

from __future__ import annotations

from typing import Any, cast

from django.apps import apps
from django.db import InterfaceError, OperationalError, connections, transaction
from django.db.models import Model, Q

from pubsub.backends.outbox import Change, OutboxBackend
from pubsub.changes import items_for, shelter, tell_failed
from pubsub.context import originating
from pubsub.exceptions import NotRegistered, PubSubError
from pubsub.instances import key_of, primary_key
from pubsub.items import make_retraction
from pubsub.models import OutboxItem, State
from pubsub.publications import Publication
from pubsub.registry import pubsub
from pubsub.relay.lanes import Stripe, held, in_order

#: So many changed rows are read in one transaction.
AT_ONCE = 100


class Reader:
    """Makes items of the changed rows in a stripe of lanes."""

    def __init__(self, stripe: Stripe) -> None:
        self._stripe = stripe
        self._outbox = OutboxBackend()
        #: How many rows were left because somebody else has locked them.
        self.left = 0
        #: How many rows were set aside.
        self.refused = 0
        self._failures: list[tuple[Publication, OutboxItem, Exception]] = []

    def turn(self) -> int:
        """Read some rows; returns how many are done."""
        self.left = 0
        using = self._stripe.using
        unread = OutboxItem._base_manager.using(using).filter(state=State.UNREAD)
        if not unread.exists():  # in no lane at all, which is soon known
            return 0
        with held(self._stripe, Q(state=State.UNREAD)) as lanes:
            found = sorted(in_order(unread, lanes, AT_ONCE), key=lambda row: row.pk)
            by_model: dict[str, list[OutboxItem]] = {}
            for row in found:
                by_model.setdefault(change_of(row)["model"], []).append(row)
            done = sum(self._read(label, rows) for label, rows in by_model.items())
        self._tell()
        return done

    # Private

    def _tell(self) -> None:
        """Send our signals, with the transaction behind us: receivers do what they like."""
        failures, self._failures = self._failures, []
        for publication, row, error in failures:
            change = change_of(row)
            about = f"{publication.model._meta.label} {change['pk']} ({change['event']})"
            tell_failed(
                about, error, model=publication.model, pk=change["pk"], event=change["event"]
            )

    def _read(self, label: str, rows: list[OutboxItem]) -> int:
        """Read the rows of one model that have changed."""
        try:
            model = apps.get_model(label)
        except LookupError as error:
            for row in rows:
                self._set_aside(row, error)
            return len(rows)
        if not self._stripe.can_share:
            # Writes the first row, so that nobody else writes until all is done.
            return sum(self._read_alone(model, row) for row in rows)
        return self._isolated(model, rows)

    def _isolated(self, model: type[Model], rows: list[OutboxItem]) -> int:
        """Read rows; one that cannot be read is set aside, and holds up no other."""
        try:
            with transaction.atomic(using=self._stripe.using):
                return self._make(model, rows)
        except (OperationalError, InterfaceError):
            raise  # the database is away, or a deadlock: not the rows' fault
        except Exception as error:  # noqa: BLE001 (of the row's key, table or hooks)
            if len(rows) > 1:
                return sum(self._isolated(model, [row]) for row in rows)
            self._set_aside(rows[0], error)
            return 1

    def _read_alone(self, model: type[Model], row: OutboxItem) -> int:
        using = self._stripe.using
        with transaction.atomic(using=using):
            OutboxItem._base_manager.using(using).filter(pk=row.pk).update(error="")
            return self._isolated(model, [row])

    def _make(self, model: type[Model], rows: list[OutboxItem]) -> int:
        wanted = {change_of(row)["pk"] for row in rows}
        keys = {text: key_from(model, text) for text in wanted}
        states, locked = self._states(model, list(keys.values()))
        done: list[int] = []
        left = 0
        for row in rows:
            key = change_of(row)["pk"]
            if key in locked:
                left += 1
                continue
            state = states.get(key)
            if state is None:  # deleted since, which has been told by itself, but not where it was
                self._leave(row)
            if state is None or self._write(row, state):
                done.append(row.pk)
        using = self._stripe.using
        OutboxItem._base_manager.using(using).filter(pk__in=done)._raw_delete(using)
        self.left += left
        return len(rows) - left

    def _leave(self, row: OutboxItem) -> None:
        """Retract a row that is gone from where it had left before."""
        places = change_of(row)["before"] or ()
        gone = [make_retraction(node, item_id) for node, item_id in places if item_id is not None]
        self._outbox.write(gone, self._stripe.using)

    def _states(self, model: type[Model], keys: list[Any]) -> tuple[dict[str, Model], set[str]]:
        """The rows with some keys, locked, and the keys of those that others have locked."""
        using = self._stripe.using
        features = connections[using].features
        rows = model._base_manager.using(using).filter(pk__in=keys)
        if features.has_select_for_update:
            # Who but refers to a row does not keep us from it, where the database can tell.
            locking = rows.select_for_update(
                skip_locked=features.has_select_for_update_skip_locked,
                no_key=features.has_select_for_no_key_update,
            )
            states = {primary_key(row): row for row in locking}
        else:
            return {primary_key(row): row for row in rows}, set()
        if len(states) == len(keys):
            return states, set()
        there = {key_of(model, pk) for pk in rows.values_list("pk", flat=True)}
        return states, there - set(states)

    def _write(self, row: OutboxItem, state: Model) -> bool:
        """Write what a changed row publishes; returns whether that is done with."""
        change = change_of(row)
        try:
            publication = publication_of(change["publication"])
        except (LookupError, PubSubError) as error:
            self._set_aside(row, error)
            return False
        before = change["before"]
        try:
            with originating(change["origin"]), shelter(publication, self._stripe.using):
                interval, items = items_for(
                    publication,
                    state,
                    change["event"],
                    before=None if before is None else [(node, id) for node, id in before],
                    is_reread=True,
                    only_left=change["only_left"],
                )
        except Exception as error:  # noqa: BLE001 (of the publication's hooks: told afterwards)
            self._failures.append((publication, row, error))
            self._set_aside(row, error)
            return False
        self._outbox.write(items, self._stripe.using, None if change["by_hand"] else interval)
        return True

    def _set_aside(self, row: OutboxItem, error: Exception) -> None:
        self.refused += 1
        OutboxItem._base_manager.using(self._stripe.using).filter(pk=row.pk).update(
            state=State.REFUSED, error=f"{type(error).__name__}: {error}"
        )


def change_of(row: OutboxItem) -> Change:
    """What became of the row that is to be read."""
    return cast("Change", row.change)


def key_from(model: type[Model], text: str) -> Any:
    """The primary key that :func:`~pubsub.instances.primary_key` wrote."""
    assert model._meta.pk is not None  # every concrete model has one
    key = model._meta.pk.to_python(text)
    return tuple(key) if isinstance(key, list) else key


def publication_of(label: str) -> Publication:
    """The Publication of a registered model.

    :raises LookupError, NotRegistered: if there is none any more.
    """
    model = apps.get_model(label)
    if not pubsub.is_registered(model):
        raise NotRegistered(f"{label} is not registered any more")
    return pubsub.publication_for(model)
