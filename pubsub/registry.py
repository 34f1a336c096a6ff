"""The registry: which models are published, and the receivers of Django's signals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import Model
from django.db.models.signals import class_prepared, post_delete, post_save

from pubsub.exceptions import AlreadyRegistered, NotRegistered, RegistrationError
from pubsub.items import CREATED, DELETED, UPDATED, Item
from pubsub.publications import Publication
from pubsub.publishing import announce, publish, retract
from pubsub.signals import publish_failed


class PubSub:
    """The registered models, each with its Publication."""

    # Whoever has the registry in his hands needs nothing else to publish by hand.
    publish = staticmethod(publish)
    retract = staticmethod(retract)

    def __init__(self) -> None:
        self._publications: dict[type[Model], Publication] = {}
        self._heard: set[type[Model]] = set()
        class_prepared.connect(self._prepared)

    def register(self, model_or_iterable: type[Model] | Iterable[type[Model]]) -> None:
        """Publish every save and delete of a model, from now on, to whoever may read its node.

        Unless PUBSUB_NODE_DEFAULTS says otherwise that is everybody, and it is all columns: a
        model with secrets in it must not be registered.

        :param model_or_iterable: a model class, or several; when one of them cannot be
            registered, none is.
        :raises AlreadyRegistered: for a model that has been registered before.
        :raises RegistrationError: for an abstract model, or what is no model.
        """
        models = [model for model in _models(model_or_iterable) if not model._meta.swapped]
        for model in models:
            if model in self._publications or models.count(model) > 1:
                raise AlreadyRegistered(f"{model._meta.label} has been registered already")
        for model in models:
            self._publications[model] = Publication(model)
        self._listen()

    def unregister(self, model_or_iterable: type[Model] | Iterable[type[Model]]) -> None:
        """Publish a model, or several, no longer.

        :raises NotRegistered: for a model that is not registered.
        """
        models = [model for model in _models(model_or_iterable) if not model._meta.swapped]
        for model in models:
            if model not in self._publications:
                raise NotRegistered(f"{model._meta.label} is not registered")
        for model in models:
            del self._publications[model]
        self._listen()

    def is_registered(self, model: type[Model]) -> bool:
        """Whether saves of this model are published."""
        return model in self._publications

    @property
    def publications(self) -> list[Publication]:
        """The Publication of each registered model, in the order of registration."""
        return list(self._publications.values())

    # Private

    def _listen(self) -> None:
        """Hear of what is registered and of nothing else.

        A receiver for all models would make Django read all rows that it deletes, of any model.
        """
        senders = {sender for model in self._publications for sender in _senders(model)}
        for sender in senders - self._heard:
            post_save.connect(self._saved, sender=sender)
            post_delete.connect(self._deleted, sender=sender)
        for sender in self._heard - senders:
            post_save.disconnect(self._saved, sender=sender)
            post_delete.disconnect(self._deleted, sender=sender)
        self._heard = senders

    def _prepared(self, sender: type[Model], **kwargs: Any) -> None:
        """A proxy may be defined after its model has been registered."""
        if sender._meta.proxy:
            self._listen()

    def _saved(
        self,
        sender: type[Model],
        instance: Model,
        created: bool,
        raw: bool,
        using: str,
        **kwargs: Any,
    ) -> None:
        if not raw:  # fixtures are loaded before what they refer to is complete
            self._announce(sender, instance, CREATED if created else UPDATED, using)

    def _deleted(self, sender: type[Model], instance: Model, using: str, **kwargs: Any) -> None:
        self._announce(sender, instance, DELETED, using)

    def _announce(self, model: type[Model], instance: Model, event: str, using: str) -> None:
        """Publish what is registered; whatever goes wrong, the save goes on."""
        found = self._publications
        publication = found.get(model) or found.get(model._meta.concrete_model or model)
        if publication is None:
            return
        try:
            announce(publication.make_item(instance, event), using)
        except Exception as error:  # noqa: BLE001 (a save never fails because of us)
            about = f"{model._meta.label} {instance.pk} ({event})"
            publish_failed.send_robust(Item, item=None, error=error, about=about)


def _senders(model: type[Model]) -> Iterator[type[Model]]:
    """Who is saved when the model is: itself, and its proxies if it is none."""
    yield model
    if not model._meta.proxy:
        yield from _proxies(model)


def _proxies(model: type[Model]) -> Iterator[type[Model]]:
    for subclass in model.__subclasses__():
        if subclass._meta.proxy:
            yield subclass
            yield from _proxies(subclass)


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
