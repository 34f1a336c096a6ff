"""Publication: what a registered model publishes, and where."""

from __future__ import annotations

from django.db.models import Model

from pubsub.items import DELETED, Item, make_item, make_retraction, primary_key


class Publication:
    """The publishing side of one model, as ModelAdmin is its editing side.

    :param model: the registered model.
    """

    def __init__(self, model: type[Model]) -> None:
        self.model = model

    @property
    def node(self) -> str:
        """The node that the model's instances are published on: ``/app_label/ModelName``."""
        return f"/{self.model._meta.app_label}/{self.model._meta.object_name}"

    def make_item(self, instance: Model, event: str) -> Item:
        """Freeze an instance as it is now.

        :raises InvalidItem: for what cannot be put on the wire.
        """
        if event == DELETED:
            return make_retraction(self.node, primary_key(instance))
        return make_item(self.node, instance, event=event)
