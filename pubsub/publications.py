"""Publication: what a registered model publishes: where, when, and how."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal

from django.db.models import Field, Model

from pubsub import formats
from pubsub.conf import conf
from pubsub.exceptions import InvalidItem
from pubsub.instances import name_of, primary_key
from pubsub.items import (
    CREATED,
    DELETED,
    UPDATED,
    ItemId,
    now,
)
from pubsub.payloads import XML, is_payload, shortened
from pubsub.rowxml import to_xml

#: What ``access`` may be, and the access model on the server (XEP-0060 §4.5).
ACCESS_MODELS = {"open": "open", "private": "whitelist"}

#: What ``publish_model`` may be, and the publish model on the server (XEP-0060 §4.5).
PUBLISH_MODELS = {"publishers": "publishers", "members": "subscribers"}

#: What an item can carry, in words.
PAYLOADS = "text, a dict, a list, an xml.etree Element or a model instance"

#: The methods that decide for a single row.
HOOKS = (
    *("get_nodes", "should_publish", "get_item_id", "get_fields", "get_payload"),
    *("get_configuration", "get_throttle"),
)

#: Those among them that decide about the payload.
PAYLOAD_HOOKS = ("get_fields", "get_payload")


class Publication:
    """The publishing side of one model, as ModelAdmin is its editing side.

    Options are class attributes, and each has a method that decides for a single row.

    :param model: the registered model.
    """

    #: The node, or several; None means ``/app_label/ModelName``.  See :meth:`get_nodes`.
    node: str | Collection[str] | None = None

    #: Which events are published: any of ``created``, ``updated``, ``deleted``.
    events: Collection[str] = (CREATED, UPDATED, DELETED)

    #: Names of the fields that are published, as for a ModelForm; None means all columns and the
    #: relations of :attr:`m2m`.  See :meth:`get_fields`.
    fields: Collection[str] | Literal["__all__"] | None = None

    #: Names of fields that are not published.
    exclude: Collection[str] = ()

    #: ``xml``, ``json``, ``atom``, or the dotted path of a serializer.  See :meth:`get_payload`.
    format: str = formats.XML_FORMAT

    #: Whether relations are written by the natural keys of what they lead to.
    natural_keys: bool = False

    #: What an item is known by: ``"pk"``, the name of another unique field, or None for a log, in
    #: which each save is an item of its own.  See :meth:`get_item_id`.
    item_id: str | None = "pk"

    #: Names of many-to-many fields whose changes are updates of the row.
    m2m: Collection[str] = ()

    #: Whether the row is read before each save, which costs a query, to retract it from the nodes
    #: and ids that it leaves.
    track: bool = False

    #: How many items a node keeps (``pubsub#max_items``).  See :meth:`get_configuration`.
    max_items: int | Literal["max"] | None = None

    #: After how many seconds an item may go (``pubsub#item_expire``).
    expire: float | timedelta | None = None

    #: Who may read the nodes: ``open``, or ``private``: nobody who was not let in by name.
    access: str | None = None

    #: Who may publish on the nodes besides Django: ``publishers``, nobody; or ``members``, whoever
    #: was let in to a private node and has subscribed to it.
    publish_model: str | None = None

    #: Seconds between two updates of one item: the first goes at once, and the last one that came
    #: meanwhile when they are over.  See :meth:`get_throttle`.
    throttle: float | timedelta | None = None

    def __init__(self, model: type[Model]) -> None:
        self.model = model

    # Hooks

    def get_nodes(self, instance: Any, event: str) -> str | Iterable[str] | None:
        """The nodes that a row belongs on; none: it is not published.

        :param instance: the row as it was saved.
        :param event: ``created``, ``updated`` or ``deleted``.
        """
        return self.nodes

    def should_publish(self, instance: Any, event: str) -> bool:
        """Whether a row is published at all; an update that makes this untrue retracts it."""
        return True

    def get_item_id(self, instance: Any) -> ItemId | None:
        """The id of a row's item; None lets the server choose, and nothing is overwritten."""
        if self.item_id == "pk":
            if instance.pk is None:
                raise InvalidItem(
                    f"a row of {self.model._meta.label} has no primary key: save it first"
                )
            return primary_key(instance)
        if self.item_id is None:
            return None
        field: Any = self.model._meta.get_field(self.item_id)
        if getattr(instance, field.attname) is None:
            raise InvalidItem(
                f"{name_of(instance)} has no {self.item_id}, which its item would be known by"
            )
        return str(field.value_to_string(instance))

    def get_fields(self, instance: Any, event: str) -> Collection[str]:
        """The names of the fields that are published."""
        return self.field_names

    def get_payload(self, instance: Any, event: str) -> Any:
        """What is published: anything that ``publish()`` takes.

        :returns: for the format ``json`` a dict, for ``atom`` an Element; what ``xml`` gives is not
            to be changed.
        """
        fields = self._fields(instance, event)
        if self.format == formats.XML_FORMAT:
            return XML(to_xml(instance, fields, natural_keys=self.natural_keys))
        if self.format == formats.JSON_FORMAT:
            data = formats.to_data(instance, fields, natural_keys=self.natural_keys)
            return {name: value for name, value in data.items() if name not in self.exclude}
        if self.format == formats.ATOM_FORMAT:
            uri = formats.uri_of(conf.pubsub_host, self.default_node, primary_key(instance))
            return formats.to_atom(
                instance,
                fields,
                uri=uri,
                author=conf.domain,
                at=now(),
                natural_keys=self.natural_keys,
            )
        serialize = formats.serializer(self.format, natural_keys=self.natural_keys)
        payload = serialize(instance, fields)
        if is_payload(payload):
            return payload
        raise TypeError(
            f"the format {self.format} of {type(self).__qualname__} made {shortened(payload)} of "
            f"type {type(payload).__name__}; it has to make {PAYLOADS}"
        )

    def get_configuration(self, node: str) -> Mapping[str, Any]:
        """What a node is to be like (XEP-0060 §16.4.4), laid over PUBSUB_NODE_DEFAULTS."""
        return self.configuration

    def get_throttle(self, instance: Any, event: str) -> float | timedelta | None:
        """Seconds between two updates of this row."""
        return self.throttle

    # What the options and hooks come to

    @cached_property
    def has_hooks(self) -> bool:
        """Whether code of others decides for single rows."""
        own = [getattr(type(self), hook) is not getattr(Publication, hook) for hook in HOOKS]
        # These call methods of the model.
        asks = self.natural_keys or self.format not in (formats.XML_FORMAT, formats.JSON_FORMAT)
        return any(own) or asks

    @cached_property
    def writes_columns(self) -> bool:
        """Whether a payload is the XML of the columns, and no code of others has a say in it."""
        own = [getattr(type(self), hook) is getattr(Publication, hook) for hook in PAYLOAD_HOOKS]
        return all(own) and self.format == formats.XML_FORMAT and not self.natural_keys

    @cached_property
    def may_leave(self) -> bool:
        """Whether an update may take a row off a node."""
        return self.track or type(self).should_publish is not Publication.should_publish

    @cached_property
    def names_nodes_by_row(self) -> bool:
        """Whether a hook names nodes, so that there may be more of them than :attr:`nodes`."""
        return type(self).get_nodes is not Publication.get_nodes

    @cached_property
    def may_be_private(self) -> bool:
        """Whether not everybody may read some of the nodes, as far as the options can tell."""
        has_hook = type(self).get_configuration is not Publication.get_configuration
        return has_hook or self.configuration.get("access_model", "open") != "open"

    @cached_property
    def is_log(self) -> bool:
        """Whether each save is an item of its own, and none is ever overwritten."""
        has_hook = type(self).get_item_id is not Publication.get_item_id
        return self.item_id is None and not has_hook

    @property
    def default_node(self) -> str:
        """The model's own node, ``/app_label/ModelName``."""
        return f"/{self.model._meta.app_label}/{self.model._meta.object_name}"

    @cached_property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that :attr:`node` names."""
        if self.node is None:
            return (self.default_node,)
        return (self.node,) if isinstance(self.node, str) else tuple(dict.fromkeys(self.node))

    @cached_property
    def field_names(self) -> tuple[str, ...]:
        """The names of the fields that :attr:`fields`, :attr:`exclude` and :attr:`m2m` leave."""
        if self.fields is None or self.fields == "__all__":
            chosen = [*(field.name for field in self.model._meta.concrete_fields), *self.m2m]
        else:
            chosen = list(self.fields)
        return tuple(name for name in chosen if name not in self.exclude)

    @cached_property
    def columns(self) -> frozenset[Field[Any, Any]]:
        """The columns among the fields that are published, and those that tell the item's id."""
        names = {*self.field_names, self.item_id}
        return frozenset(f for f in self.model._meta.concrete_fields if f.name in names)

    @cached_property
    def has_own_ids(self) -> bool:
        """Whether an item is one row's: then its states come in order, by the lock on the row."""
        if type(self).get_item_id is not Publication.get_item_id:
            return False
        if self.item_id in ("pk", None):
            return True
        field: Any = self.model._meta.get_field(self.item_id)
        return bool(field.unique)

    @cached_property
    def relations(self) -> frozenset[str]:
        """The many-to-many fields among those that are published."""
        names = {field.name for field in self.model._meta.many_to_many}
        return frozenset(names.intersection(self.field_names))

    @cached_property
    def configuration(self) -> Mapping[str, Any]:
        """What the options say about a node."""
        configuration: dict[str, Any] = {}
        if self.max_items is not None:
            configuration["max_items"] = self.max_items
        if self.expire is not None:
            configuration["item_expire"] = math.ceil(seconds(self.expire))
        if self.access is not None:
            configuration["access_model"] = ACCESS_MODELS[self.access]
        if self.publish_model is not None:
            configuration["publish_model"] = PUBLISH_MODELS[self.publish_model]
        return configuration

    # Private

    def _fields(self, row: Model, event: str) -> Collection[str]:
        names = self.get_fields(row, event)
        if names is self.field_names:
            return names
        # Django's serializers take None for all of them, and look for names inside of a text.
        is_list = isinstance(names, Collection) and not isinstance(names, (str, bytes, Mapping))
        if is_list and self._known_fields.issuperset(names):
            return names
        expected = f"a list of names of fields: {', '.join(sorted(self._known_fields))}"
        raise wrong_answer(self, "get_fields", names, expected)

    @cached_property
    def _known_fields(self) -> frozenset[str]:
        meta = self.model._meta
        return frozenset(field.name for field in (*meta.concrete_fields, *meta.many_to_many))


def wrong_answer(publication: Publication, hook: str, value: Any, expected: str) -> TypeError:
    """The error of a hook that returned what it must not.

    :param expected: what it has to return, in words.
    """
    return TypeError(
        f"{type(publication).__qualname__}.{hook}() returned {shortened(value)} of type "
        f"{type(value).__name__}; it has to return {expected}"
    )


def seconds(interval: float | timedelta) -> float:
    """An interval in seconds."""
    return interval.total_seconds() if isinstance(interval, timedelta) else interval
