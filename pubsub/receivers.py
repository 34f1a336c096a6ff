"""The receivers of Django's signals: what is registered is heard of, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from django.db import connections
from django.db.models import Model
from django.db.models.fields.related import lazy_related_operation  # type: ignore[attr-defined]
from django.db.models.signals import (
    ModelSignal,
    class_prepared,
    m2m_changed,
    post_delete,
    post_save,
    pre_delete,
    pre_save,
)

from pubsub.announcing import announce
from pubsub.changes import places_before
from pubsub.context import is_muted
from pubsub.fetching import locked
from pubsub.items import CREATED, DELETED, UPDATED, Place
from pubsub.joining import join, part
from pubsub.publications import Publication
from pubsub.relations import Relation

#: Under this name an instance carries, from before a save until after it, where it belonged.
_BEFORE = "_pubsub_places"

#: Under this name an instance of a fixture says so: its relations are set after it was saved.
_RAW = "_pubsub_raw"


class Receivers:
    """Hears of saves, deletes and changed relations, and announces them.

    :param publications_of: the Publications that a save of a model concerns.
    """

    def __init__(self, publications_of: Callable[[type[Model]], list[Publication]]) -> None:
        self._publications_of = publications_of
        self._publications: list[Publication] = []
        self._relations: dict[type[Model], list[Relation]] = {}
        self._heard: set[tuple[ModelSignal, type[Model]]] = set()
        self._receivers: dict[ModelSignal, Callable[..., None]] = {
            pre_save: self._saving,
            post_save: self._saved,
            pre_delete: self._deleting,
            post_delete: self._deleted,
            m2m_changed: self._related,
        }
        class_prepared.connect(self._prepared)

    def hear(self, publications: Iterable[Publication]) -> None:
        """Hear of what concerns these Publications, and of nothing else.

        A receiver for all models would make Django read all rows that it deletes, of any model.
        """
        self._publications = list(publications)
        self._relations = {}
        for publication in self._publications:
            for relation in Relation.all_of(publication):
                if isinstance(relation.through, str):  # it is defined after this one
                    lazy_related_operation(self._resolved, publication.model, relation.through)
                else:
                    self._relations.setdefault(relation.through, []).append(relation)
        wanted = {(m2m_changed, through) for through in self._relations}
        for publication in self._publications:
            signals = [post_save, post_delete]
            signals += [pre_save, pre_delete] if publication.track else []
            wanted |= {(s, sender) for s in signals for sender in _heirs(publication.model)}
        for signal, sender in wanted - self._heard:
            signal.connect(self._receivers[signal], sender=sender)
            if signal is post_save:
                join(sender)
        for signal, sender in self._heard - wanted:
            signal.disconnect(self._receivers[signal], sender=sender)
            if signal is post_save:
                part(sender)
        self._heard = wanted

    # Private

    def _prepared(self, sender: type[Model], **kwargs: Any) -> None:
        """A model may be defined after the one that it inherits from has been registered."""
        if any(issubclass(sender, publication.model) for publication in self._publications):
            self.hear(self._publications)

    def _resolved(self, model: type[Model], through: type[Model]) -> None:
        self.hear(self._publications)

    def _saving(
        self,
        sender: type[Model],
        instance: Model,
        raw: bool,
        using: str,
        **kwargs: Any,
    ) -> None:
        instance.__dict__.pop(_BEFORE, None)  # of a save that failed
        key = sender._meta.pk
        # A new row with a key that it was just given, or that the database will make, is nowhere.
        is_new = instance._state.adding and key is not None and key.has_default()
        is_new = is_new or hasattr(instance.pk, "resolve_expression")
        if not (raw or is_new or is_muted()):
            self._remember(sender, instance, UPDATED, using)

    def _saved(
        self,
        sender: type[Model],
        instance: Model,
        created: bool,
        raw: bool,
        using: str,
        update_fields: Collection[str] | None = None,
        **kwargs: Any,
    ) -> None:
        before = instance.__dict__.pop(_BEFORE, {})
        if raw:  # fixtures are loaded before what they refer to is complete
            instance.__dict__[_RAW] = True
            return
        instance.__dict__.pop(_RAW, None)
        if is_muted():
            return
        event = CREATED if created else UPDATED
        for publication in self._publications_of(sender):
            announce(
                publication,
                instance,
                event,
                using,
                written=update_fields,
                before=before.get(publication),
            )

    def _deleting(self, sender: type[Model], instance: Model, using: str, **kwargs: Any) -> None:
        if not is_muted():
            self._remember(sender, instance, DELETED, using)

    def _deleted(self, sender: type[Model], instance: Model, using: str, **kwargs: Any) -> None:
        before = instance.__dict__.pop(_BEFORE, {})
        if is_muted():
            return
        for publication in self._publications_of(sender):
            # Django tells of the rows in its parents' tables by themselves.
            if publication.model._meta.concrete_model is sender._meta.concrete_model:
                announce(publication, instance, DELETED, using, before=before.get(publication))

    def _remember(self, sender: type[Model], instance: Model, event: str, using: str) -> None:
        """Read where the row belongs before it changes, for those who want to know."""
        tracking = [p for p in self._publications_of(sender) if p.track]
        rows = sender._base_manager.using(using).filter(pk=instance.pk)
        if connections[using].in_atomic_block:  # or somebody else may move it meanwhile
            rows = locked(rows)
        row = rows.first() if tracking and instance.pk is not None else None
        instance.__dict__[_BEFORE] = _Before(
            (publication, [] if row is None else places_before(publication, row, event))
            for publication in tracking
        )

    def _related(self, sender: type[Model], instance: Model, **kwargs: Any) -> None:
        if not (is_muted() or _RAW in instance.__dict__):
            for relation in self._relations.get(sender, ()):
                relation.changed(instance=instance, **kwargs)


class _Before(dict[Publication, list[Place]]):
    """Belongs to one save: a copy of the instance, pickled or not, gets an empty one."""

    def __reduce__(self) -> tuple[type[dict[Any, Any]], tuple[()]]:
        return dict, ()


def _heirs(model: type[Model]) -> Iterator[type[Model]]:
    """Whose rows are rows of a model: its own, its proxies', and those of the models under it."""
    if not model._meta.abstract:
        yield model
    for subclass in model.__subclasses__():
        yield from _heirs(subclass)
