"""The registry: which models are published, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from functools import cached_property, partial
from typing import Any, TypeVar

from django.db.models import Model, QuerySet

from pubsub import nodes
from pubsub.asking import configuration_of
from pubsub.byhand import publish_rows
from pubsub.context import muted
from pubsub.exceptions import AlreadyRegistered, NotRegistered, RegistrationError
from pubsub.items import UPDATED
from pubsub.publications import Publication
from pubsub.publishing import apublish, aretract, publish, retract
from pubsub.receivers import Receivers

P = TypeVar("P", bound=type[Publication])


class PubSub:
    """The registered models, each with its Publication."""

    # Whoever has the registry in his hands needs nothing else to publish by hand.
    publish = staticmethod(publish)
    apublish = staticmethod(apublish)
    retract = staticmethod(retract)
    aretract = staticmethod(aretract)
    muted = staticmethod(muted)

    def __init__(self) -> None:
        self._publications: dict[type[Model], Publication] = {}
        self._configurations: dict[type[Model], Callable[[str], Mapping[str, Any]]] = {}
        self._receivers = Receivers(self.publications_of)

    def register(
        self,
        model_or_iterable: type[Model] | Iterable[type[Model]],
        publication_class: type[Publication] | None = None,
        **options: Any,
    ) -> Callable[[P], P]:
        """Publish every save and delete of a model, from now on, to whoever may read its nodes.

        Unless the options, or PUBSUB_NODE_DEFAULTS, say otherwise that is everybody, and it is all
        columns: a model with secrets in it must name its ``fields``.

        It decorates a Publication, too: ``@pubsub.register(Post)``.

        :param model_or_iterable: a model class, or several; when one of them cannot be
            registered, none is.
        :param publication_class: a subclass of :class:`~pubsub.publications.Publication`.
        :param options: its attributes, such as ``fields=["title"]``, for these models.
        :raises AlreadyRegistered: for a model that has been registered before.
        :raises RegistrationError: for an abstract model, what is no model or no Publication, and
            an option that does not exist.
        """
        models = [model for model in _models(model_or_iterable) if not model._meta.swapped]
        for model in models:
            if model in self._publications or models.count(model) > 1:
                raise AlreadyRegistered(
                    f"{model._meta.label} has been registered already; unregister() it first"
                )
        self._add(models, _with_options(publication_class or Publication, options))

        def decorate(decorated: P) -> P:
            if publication_class is not None:
                raise RegistrationError(
                    f"register() was given {publication_class.__name__} and decorates "
                    f"{decorated!r}: one of the two is enough"
                )
            # Until here they have been registered with the options alone.
            self.unregister(models)
            self._add(models, _with_options(decorated, options))
            return decorated

        return decorate

    def unregister(self, model_or_iterable: type[Model] | Iterable[type[Model]]) -> None:
        """Publish a model, or several, no longer.

        :raises NotRegistered: for a model that is not registered.
        """
        models = [model for model in _models(model_or_iterable) if not model._meta.swapped]
        for model in models:
            if model not in self._publications:
                raise NotRegistered(f"{model._meta.label} is not registered")
        for model in models:
            publication = self._publications.pop(model)
            for node in publication.nodes:
                nodes.withdraw(node, self._configurations[model])
            del self._configurations[model]
        self._receivers.hear(self.publications)

    def is_registered(self, model: type[Model]) -> bool:
        """Whether saves of this model are published."""
        return model in self._publications

    def publication_for(self, model: type[Model]) -> Publication:
        """The Publication of a registered model.

        :raises NotRegistered: for a model that is not registered.
        """
        try:
            return self._publications[model]
        except KeyError:
            raise NotRegistered(f"{model._meta.label} is not registered") from None

    @property
    def publications(self) -> list[Publication]:
        """The Publication of each registered model, in the order of registration."""
        return list(self._publications.values())

    @property
    def publications_by_node(self) -> dict[str, list[Publication]]:
        """The nodes that options name, each with the Publications that name it."""
        found: dict[str, list[Publication]] = {}
        for publication in self.publications:
            for node in publication.nodes:
                found.setdefault(node, []).append(publication)
        return found

    def publications_of(self, model: type[Model]) -> list[Publication]:
        """The Publications that a save of a model concerns.

        A row of a model is one of the models that it inherits from, too: of the model that it is a
        proxy of, and of those that have a part of it in their tables.
        """
        found = self._publications
        return [found[base] for base in model.__mro__ if base in found]

    def publish_rows(
        self,
        rows: QuerySet[Any] | Iterable[Model],
        event: str = UPDATED,
        *,
        using: str | None = None,
    ) -> Future[int]:
        """Publish rows as they are, as if each had been saved: after a change that nobody saw.

        They are read in batches, and sent one behind the other; where there are more of them than
        the server has acknowledged within a moment, this waits for it.  Inside a transaction they
        are read again, and sent, when it commits.

        :param rows: a queryset or an iterable of instances of registered models, of any length.
        :param event: ``created``, ``updated`` or ``deleted``; whatever ``events`` says.
        :param using: alias of the database whose transaction to wait for; by default the
            queryset's, or each instance's own.
        :returns: a Future of how many items were acknowledged, when all of them have an answer; it
            fails with the first error that there was.  A rollback cancels it.
        :raises NotRegistered: for an instance of a model that is not registered.
        :raises ValueError: for another event.
        :raises TypeError: for what are no rows.
        """
        return publish_rows(self.publications_of, rows, event, using)

    # Private

    def _add(self, models: list[type[Model]], publication_class: type[Publication]) -> None:
        publications = {model: publication_class(model) for model in models}
        for publication in publications.values():
            try:
                publication.nodes  # noqa: B018 (what is none of them keeps all from being registered)
            except TypeError:
                raise RegistrationError(
                    f"node = {publication.node!r} is neither the name of a node nor several"
                ) from None
        self._publications |= publications
        for model, publication in publications.items():
            self._configurations[model] = partial(configuration_of, publication)
            for node in publication.nodes:
                nodes.declare(node, self._configurations[model])
        self._receivers.hear(self.publications)


def _with_options(base: type[Publication], options: dict[str, Any]) -> type[Publication]:
    if not (isinstance(base, type) and issubclass(base, Publication)):
        raise RegistrationError(f"{base!r} is no subclass of pubsub.Publication")
    unknown = [name for name in options if not _is_option(base, name)]
    if unknown:
        raise RegistrationError(
            f"{base.__name__} has no option {', '.join(map(repr, unknown))}; it has "
            f"{', '.join(sorted(name for name in dir(base) if _is_option(base, name)))}"
        )
    if not options:
        return base
    return type(base.__name__, (base,), {**options, "__module__": base.__module__})


def _is_option(base: type[Publication], name: str) -> bool:
    """Whether a name is that of an option or a hook; what these come to is neither."""
    derived = isinstance(getattr(base, name, None), (property, cached_property))
    return hasattr(base, name) and not derived and not name.startswith("_")


def _models(model_or_iterable: Any) -> list[type[Model]]:
    single = isinstance(model_or_iterable, (type, str)) or not isinstance(
        model_or_iterable, Iterable
    )
    models = [model_or_iterable] if single else list(model_or_iterable)
    for model in models:
        if not (isinstance(model, type) and issubclass(model, Model) and model is not Model):
            raise RegistrationError(f"register() takes model classes, not {model!r}")
        if model._meta.abstract:
            raise RegistrationError(
                f"{model.__name__} is abstract: it has no rows to publish; register its subclasses"
            )
    return models


#: The registry of the site, as ``admin.site`` is the admin's.
pubsub = PubSub()
