"""Publication: what a registered model publishes, and where."""

from __future__ import annotations

from itertools import count

from django.db.models import Model

from pubsub.instances import primary_key
from pubsub.items import DELETED, Item, make_item, make_retraction


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
        sequence = next(_states)
        if event == DELETED:
            return make_retraction(self.node, primary_key(instance), sequence=sequence)
        return make_item(self.node, instance, event=event, sequence=sequence)


#: Numbers the states of rows in the order in which this process sees them.
_states = count()
