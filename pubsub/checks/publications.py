"""Checks of publications: options that name what does not exist, or contradict each other."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from datetime import timedelta
from difflib import get_close_matches
from functools import cached_property
from itertools import takewhile
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, Error
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Field, ManyToManyField

from pubsub.checks.nodes import check_configuration, check_rules, check_shared_nodes
from pubsub.exceptions import InvalidItem
from pubsub.formats import FORMATS, heeds_fields, serializer
from pubsub.items import CREATED, DELETED, UPDATED, valid_node
from pubsub.publications import ACCESS_MODELS, PUBLISH_MODELS, Publication, seconds
from pubsub.registry import pubsub

EVENTS = (CREATED, UPDATED, DELETED)

#: What a subclass of Publication may define.
OPTIONS_AND_HOOKS = [
    name
    for name, value in vars(Publication).items()
    if not (name.startswith("_") or isinstance(value, (property, cached_property)))
]

#: How alike two names are, from 0 to 1, of which one is taken for the other misspelt.
CLOSE = 0.75


def check_publications(**kwargs: Any) -> list[CheckMessage]:
    """Every problem of the registered publications, each with an id and a hint."""
    publications = pubsub.publications
    messages = [message for publication in publications for message in check(publication)]
    if not _has_errors(messages):  # the others go through the nodes and their configurations
        messages += check_shared_nodes(publications)
    return messages


def check(publication: Publication) -> Iterator[CheckMessage]:
    """The problems of one publication."""
    messages: list[CheckMessage] = list(_check_collections(publication))
    if not messages:  # the others go through them
        messages += _check_fields(publication)
        messages += _check_item_id(publication)
        messages += _check_events(publication)
        messages += _check_nodes(publication)
    messages += _check_format(publication)
    messages += _check_access(publication)
    messages += _check_publish_model(publication)
    messages += _check_numbers(publication)
    messages += _check_names(publication)
    if not _has_errors(messages):
        messages += _check_relations(publication)
        messages += check_configuration(publication)
        messages += check_rules(publication)
    yield from messages


def _has_errors(messages: Iterable[CheckMessage]) -> bool:
    return any(message.level >= checks.ERROR for message in messages)


def _problem(publication: Publication, option: str, problem: str, hint: str, id: str) -> Error:
    value = getattr(publication, option)
    label = publication.model._meta.label
    return Error(
        f"{type(publication).__name__} for {label}: {option} = {value!r} {problem}.",
        hint=hint,
        obj=publication.model,
        id=id,
    )


def _check_collections(publication: Publication) -> Iterator[Error]:
    for option in ("events", "fields", "exclude", "m2m"):
        value = getattr(publication, option)
        if option == "fields" and (value is None or value == "__all__"):
            continue
        if isinstance(value, (str, bytes)) or not isinstance(value, Collection):
            yield _problem(
                publication,
                option,
                "is no list of names",
                f"Write a list, such as {option} = [{value!r}].",
                "pubsub.E014",
            )


def _check_events(publication: Publication) -> Iterator[Error]:
    unknown = [event for event in publication.events if event not in EVENTS]
    if unknown:
        yield _problem(
            publication,
            "events",
            f"has {_named(unknown)}, which never happens",
            f"Choose among {_named(EVENTS)}.",
            "pubsub.E015",
        )


def _check_fields(publication: Publication) -> Iterator[CheckMessage]:
    meta = publication.model._meta
    known = [field.name for field in (*meta.concrete_fields, *meta.many_to_many)]
    for option, id in (("fields", "pubsub.E016"), ("exclude", "pubsub.E017")):
        names = getattr(publication, option)
        unknown = [] if names in (None, "__all__") else [n for n in names if n not in known]
        if unknown:
            yield _problem(
                publication,
                option,
                f"names {_named(unknown)}, which the model does not have",
                f"Its fields are {', '.join(known)}.",
                id,
            )
    relations = [field.name for field in meta.many_to_many if isinstance(field, ManyToManyField)]
    unknown = [name for name in publication.m2m if name not in relations]
    if unknown:
        yield _problem(
            publication,
            "m2m",
            f"names {_named(unknown)}, which is no many-to-many field of the model",
            f"It has {', '.join(relations) or 'none'}.",
            "pubsub.E018",
        )
    if "password" in publication.field_names and publication.access != "private":
        yield checks.Warning(
            f"{meta.label} is published with its field 'password', to everybody who may read "
            f"{', '.join(publication.nodes)}.",
            hint="Name the fields that are for everybody's eyes: fields = [...].",
            obj=publication.model,
            id="pubsub.W003",
        )


def _check_item_id(publication: Publication) -> Iterator[Error]:
    item_id = publication.item_id
    if item_id is not None and item_id != "pk" and not _is_unique(publication, item_id):
        yield _problem(
            publication,
            "item_id",
            "is no unique field of the model, so that rows would overwrite each other's items",
            "Choose 'pk', a field with unique=True, or None for a log.",
            "pubsub.E019",
        )
    if item_id is None and publication.throttle is not None:
        yield _problem(
            publication,
            "throttle",
            "has no effect on a log, where nothing is updated",
            "Remove it, or give items an id: item_id = 'pk'.",
            "pubsub.E020",
        )


def _check_format(publication: Publication) -> Iterator[CheckMessage]:
    if publication.format in FORMATS:
        return
    try:
        serializer(publication.format)
    except Exception as error:  # noqa: BLE001 (an import may raise anything)
        yield _problem(
            publication,
            "format",
            f"cannot be used: {error}",
            f"Choose {_named(FORMATS)}, or the dotted path of a serializer.",
            "pubsub.E021",
        )
        return
    chooses = publication.fields not in (None, "__all__") or publication.exclude
    if chooses and not heeds_fields(publication.format):
        yield checks.Warning(
            f"{publication.model._meta.label} is published by {publication.format}, which does not "
            "know of fields and exclude.",
            hint="Let the serializer itself leave out what is not for everybody's eyes.",
            obj=publication.model,
            id="pubsub.W005",
        )


def _check_publish_model(publication: Publication) -> Iterator[Error]:
    model = publication.publish_model
    if model is not None and model not in [*PUBLISH_MODELS]:
        yield _problem(
            publication,
            "publish_model",
            "is unknown",
            f"Choose {_named(PUBLISH_MODELS)}.",
            "pubsub.E030",
        )
    elif model == "members" and publication.access != "private":
        yield _problem(
            publication,
            "publish_model",
            "would let everybody publish who may subscribe, as the nodes are not private",
            'Set access = "private", and let users in by @pubsub.authorize(...).',
            "pubsub.E031",
        )


def _check_access(publication: Publication) -> Iterator[Error]:
    if publication.access is not None and publication.access not in list(ACCESS_MODELS):
        yield _problem(
            publication,
            "access",
            "is unknown",
            f"Choose {_named(ACCESS_MODELS)}.",
            "pubsub.E022",
        )


def _check_numbers(publication: Publication) -> Iterator[Error]:
    for option in ("max_items", "expire", "throttle"):
        value: Any = getattr(publication, option)
        if value is None or (option == "max_items" and value == "max"):
            continue
        number = seconds(value) if isinstance(value, timedelta) else value
        whole = option == "max_items"
        kinds = (int,) if whole else (int, float)
        if isinstance(number, bool) or not isinstance(number, kinds) or number <= 0:
            yield _problem(
                publication,
                option,
                "is no positive number",
                "Give a whole number, or 'max'." if whole else "Give seconds, or a timedelta.",
                "pubsub.E023",
            )


def _check_nodes(publication: Publication) -> Iterator[Error]:
    try:
        for node in publication.nodes:
            valid_node(node)
    except (InvalidItem, TypeError) as error:
        yield _problem(
            publication,
            "node",
            f"cannot be used: {error}",
            "Write a name such as '/blog/Post', or a list of them.",
            "pubsub.E024",
        )


def _check_relations(publication: Publication) -> Iterator[CheckMessage]:
    """What Django's serializers leave out, unless somebody else writes the payload."""
    is_written_by_others = type(publication).get_payload is not Publication.get_payload or (
        publication.format not in FORMATS and not heeds_fields(publication.format)
    )
    if is_written_by_others:
        return
    names = {*publication.field_names, *publication.m2m}
    meta = publication.model._meta
    for field in meta.many_to_many:
        if field.name in names and _has_model_of_its_own(field):
            yield checks.Warning(
                f"{type(publication).__name__} for {meta.label}: {field.name!r} goes through a "
                "model of its own, and is not published: Django's serializers never write it.",
                hint="Write it yourself in get_payload(), and publish the rows with publish_rows() "
                "when that model changes; or leave it out of fields and m2m.",
                obj=publication.model,
                id="pubsub.W006",
            )


def _has_model_of_its_own(field: Any) -> bool:
    through = field.remote_field.through
    return isinstance(through, str) or not through._meta.auto_created


def _check_names(publication: Publication) -> Iterator[CheckMessage]:
    """Names that look like options or hooks, and are none."""
    told: set[str] = set()
    for cls in takewhile(lambda cls: cls is not Publication, type(publication).__mro__):
        for name in vars(cls):
            if name.startswith("_") or name in told or hasattr(Publication, name):
                continue
            told.add(name)
            close = get_close_matches(name, OPTIONS_AND_HOOKS, n=1, cutoff=CLOSE)
            if close:
                yield checks.Warning(
                    f"{cls.__name__} for {publication.model._meta.label}: {name!r} is no option "
                    f"and no hook, and does nothing; {close[0]!r} would.",
                    hint=f"Call it {close[0]!r}, or, if it is something else, begin its name with "
                    "an underscore.",
                    obj=publication.model,
                    id="pubsub.W007",
                )


def _is_unique(publication: Publication, name: str) -> bool:
    try:
        field = publication.model._meta.get_field(name)
    except (FieldDoesNotExist, TypeError):  # a list is no name either
        return False
    return isinstance(field, Field) and field.unique


def _named(values: Iterable[str]) -> str:
    return ", ".join(repr(value) for value in values)
