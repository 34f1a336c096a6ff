"""Many-to-many relations whose changes are updates of the rows that they belong to."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from django.core.exceptions import FieldDoesNotExist
from django.db.models import ManyToManyField, Model

from pubsub.announcing import announce
from pubsub.changes import places_before
from pubsub.fetching import read_rows
from pubsub.items import UPDATED, Place
from pubsub.publications import Publication
from pubsub.rows import Key, Rows

Before = dict[Any, list[Place] | None]


class Relation:
    """One many-to-many field of a registered model.

    :param publication: of the model that is published.
    :param field: the field; it may be one of a parent's.
    """

    def __init__(self, publication: Publication, field: ManyToManyField[Any, Any]) -> None:
        self._publication = publication
        self._field = field
        self._before = threading.local()

    @classmethod
    def all_of(cls, publication: Publication) -> Iterator[Relation]:
        """The relations that a Publication names; system checks speak of those that are none."""
        for name in publication.m2m if isinstance(publication.m2m, Collection) else ():
            try:
                field = publication.model._meta.get_field(name)
            except (FieldDoesNotExist, TypeError):  # a list is no name either
                continue
            if isinstance(field, ManyToManyField):
                yield cls(publication, field)

    @property
    def through(self) -> type[Model] | str:
        """The model of the table between, which Django's signal names as its sender.

        It is but a name until the model is defined.
        """
        through: type[Model] | str = self._field.remote_field.through  # type: ignore[assignment]
        return through

    def changed(
        self,
        *,
        instance: Model,
        action: str,
        reverse: bool,
        pk_set: set[Any] | None,
        using: str,
        **kwargs: Any,
    ) -> None:
        """Receive ``m2m_changed`` of the table between.

        :param reverse: whether the instance is of the other side.
        :param pk_set: the keys of what the instance is related to; None when all of it goes.
        """
        when, _, what = action.partition("_")
        if when == "pre":
            self._remember(instance, reverse, pk_set, using, what)
            return
        before = self._remembered.pop((id(instance), what), {})
        model = self._publication.model
        others = set(pk_set or ()) if reverse or self._is_symmetrical else set()
        if not reverse and (pk_set is None or pk_set):
            pk = _key(instance)
            places = before.pop(pk, None)
            if isinstance(instance, model):
                # Nothing of the instance itself was saved just now.
                announce(self._publication, instance, UPDATED, using, written=(), before=places)
            elif instance._meta.concrete_model is not model._meta.concrete_model:
                # A row of a parent; perhaps there is one of ours that belongs to it.
                others.add(pk)
                before[pk] = places
        if others or before:
            rows = Rows(model, [self._publication], using, are_few=True)
            for pk in others | set(before):
                rows.add(Key(pk, UPDATED, [before.get(pk)]))
            rows.announce()

    # Private

    @property
    def _is_symmetrical(self) -> bool:
        return bool(self._field.remote_field.symmetrical)

    @property
    def _remembered(self) -> dict[tuple[int, str], Before]:
        """From before a change until after it, in this thread; a receiver may make another one."""
        found: dict[tuple[int, str], Before] = self._before.__dict__.setdefault("rows", {})
        return found

    def _remember(
        self,
        instance: Model,
        reverse: bool,
        pk_set: set[Any] | None,
        using: str,
        what: str,
    ) -> None:
        """Before the change: whose rows it concerns, and where they belong."""
        self._remembered.pop((id(instance), what), None)  # of a change that failed
        track = self._publication.track
        concerned = set() if reverse else {_key(instance)}
        if (reverse or self._is_symmetrical) and what == "clear":
            # Afterwards nobody can tell which ones these were.
            concerned |= set(self._all_related(instance, reverse, using))
        elif not track:
            return
        elif reverse or self._is_symmetrical:
            concerned |= pk_set or set()
        before: Before = dict.fromkeys(concerned)
        if track:
            for row in read_rows(self._publication.model, concerned, using):
                before[row.pk] = places_before(self._publication, row, UPDATED)
        self._remembered[id(instance), what] = before

    def _all_related(self, instance: Model, reverse: bool, using: str) -> Iterable[Any]:
        """The keys of the rows on the published side that an instance is related to."""
        ours, theirs = self._field.m2m_field_name(), self._field.m2m_reverse_field_name()
        if not reverse:  # a symmetrical relation: both sides are ours
            ours, theirs = theirs, ours
        through = self.through
        assert not isinstance(through, str)  # it has just sent a signal
        rows = through._base_manager.using(using).filter(**{theirs: instance})
        return rows.values_list(f"{ours}__pk", flat=True)


def _key(instance: Model) -> Any:
    """The primary key of an instance as the database gives it."""
    key = instance._meta.pk
    assert key is not None  # every concrete model has one
    return key.to_python(instance.pk)
