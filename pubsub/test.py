"""For the tests of your project: what it publishes is captured, and nothing leaves the process.

What a throttle holds back at the end of a test is dropped.

With unittest::

    class PostTest(PubSubTestMixin, TestCase):
        def test_a_new_post_is_announced(self):
            with self.capturePublished():
                Post.objects.create(title="Hello")
            self.assertPublished("/blog/Post", count=1, event="created", payload={"title": "Hello"})

With pytest, where ``conftest.py`` has ``pytest_plugins = ["pubsub.test"]``::

    def test_a_new_post_is_announced(db, published):
        with published.capture():
            Post.objects.create(title="Hello")
        published.assertPublished("/blog/Post", count=1, event="created")
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from base64 import b64encode
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connections
from django.db.models import Model
from django.test import TestCase
from django.test.utils import override_settings
from django.utils.dateparse import parse_datetime, parse_duration

from pubsub.asking import row_of
from pubsub.backends import locmem
from pubsub.commits import Announcement, begin_anew
from pubsub.instances import as_parent
from pubsub.items import Item
from pubsub.payloads import NS_JSON, make_payload
from pubsub.registry import pubsub
from pubsub.throttling import throttle

_ANY = object()
_UPDATED = re.compile(r"<(?:\w+:)?updated>[^<]*</(?:\w+:)?updated>")
_META = re.compile(r'<meta xmlns="urn:django-pubsub:1"[^>]*/>')


class Published:
    """What was published since it was made, oldest first; retractions are items, too."""

    def __init__(self) -> None:
        self._start = len(locmem.items)

    @property
    def items(self) -> list[Item]:
        """What was published so far."""
        return locmem.items[self._start :]

    @contextmanager
    def capture(self) -> Iterator[list[Item]]:
        """Run what waits for a commit at the end of the block, as if it had been a transaction.

        Django's ``TestCase``, and pytest-django's ``db``, never commit; it is done as in
        ``TestCase.captureOnCommitCallbacks(execute=True)``, for all databases.  What is throttled
        goes out as well.

        :returns: a list of the items that were published in the block, filled at its end.
        """
        found: list[Item] = []
        start = len(locmem.items)
        with ExitStack() as stack:
            for alias in connections:
                begin_anew(alias)
                stack.enter_context(TestCase.captureOnCommitCallbacks(using=alias, execute=True))
            yield found
        throttle.flush()
        found += locmem.items[start:]

    def assertPublished(
        self,
        node: str,
        *,
        count: int | None = None,
        event: str | None = None,
        payload: Any = _ANY,
    ) -> None:
        """Fail unless something was published on a node.

        :param count: exactly so many items; by default at least one.
        :param event: ``created``, ``updated``, ``deleted`` or ``published``.
        :param payload: what the items carry: text, data for JSON, an Element or an instance.  For
            an instance in Django's XML, a dict of some of its fields will do; a many-to-many field
            is a list of primary keys.
        """
        found = [
            item
            for item in self.items
            if item.node == node
            and event in (None, item.event)
            and (payload is _ANY or _carries(item, payload))
        ]
        if (not found) if count is None else len(found) != count:
            wanted = "any" if count is None else count
            facts = "" if event is None else f", event {event}"
            facts += "" if payload is _ANY else f", payload {payload!r}"
            raise AssertionError(
                f"wanted {wanted} on {node}{facts}; found {len(found)}.  {self._published()}"
            )

    def assertNothingPublished(self, node: str | None = None) -> None:
        """Fail if something was published, on a node or on any."""
        if any(node in (None, item.node) for item in self.items):
            raise AssertionError(f"wanted nothing on {node or 'any node'}.  {self._published()}")

    # Private

    def _published(self) -> str:
        lines = [f"  {item.node} {item.id} {item.event} {item.payload}" for item in self.items]
        text = "Published:\n" + "\n".join(lines) if lines else "Nothing was published."
        waiting = [
            callback
            for alias in connections
            for _, callback, *_ in connections[alias].run_on_commit
            if isinstance(callback, Announcement) and not callback.is_over
        ]
        if waiting:
            text += f"  {len(waiting)} wait for a commit: put a capture around what is to commit."
        return text


class PubSubTestMixin:
    """Goes before Django's test case: ``class PostTest(PubSubTestMixin, TestCase)``.

    Nothing leaves the process: items are kept by the locmem backend.  A ``setUp`` of your own calls
    ``super().setUp()``.
    """

    #: What the test has published so far.
    published: Published

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]
        settings = override_settings(PUBSUB_BACKEND="pubsub.backends.locmem.LocmemBackend")
        settings.enable()
        self.addCleanup(settings.disable)  # type: ignore[attr-defined]
        throttle.discard()
        self.addCleanup(throttle.discard)  # type: ignore[attr-defined]
        self.published = Published()

    def capturePublished(self) -> Any:
        """See :meth:`Published.capture`."""
        return self.published.capture()

    def assertPublished(self, node: str, **wanted: Any) -> None:
        """See :meth:`Published.assertPublished`."""
        self.published.assertPublished(node, **wanted)

    def assertNothingPublished(self, node: str | None = None) -> None:
        """See :meth:`Published.assertNothingPublished`."""
        self.published.assertNothingPublished(node)


try:
    import pytest
except ModuleNotFoundError:
    pass  # unittest does without
else:

    @pytest.fixture
    def published() -> Iterator[Published]:
        """What the test publishes; nothing leaves the process."""
        with override_settings(PUBSUB_BACKEND="pubsub.backends.locmem.LocmemBackend"):
            throttle.discard()
            try:
                yield Published()
            finally:
                throttle.discard()


# Private


def _carries(item: Item, value: Any) -> bool:
    """Whether an item has a value as its payload."""
    if item.is_retraction:
        return False
    entry = ET.fromstring(item.payload)  # noqa: S314 (our own text)
    data = entry.find(f"{{{NS_JSON}}}json")
    if isinstance(value, (dict, list)) and data is not None:
        return bool(json.loads(data.text or "") == json.loads(_as_json(value)))
    objects = entry.find("django-objects")
    if isinstance(value, dict) and objects is not None:
        fields = {f.get("name"): f for f in objects.iter("field")}
        return all(name in fields and _has(fields[name], v) for name, v in value.items())
    found = _comparable(item.payload, value)
    return any(
        _comparable(
            make_payload(payload, event=item.event, at=item.at, origin="", about="the payload"),
            value,
        )
        == found
        for payload in _payloads(value, item.event)
    )


def _payloads(value: Any, event: str) -> Iterator[Any]:
    """What a value may have been published as."""
    if isinstance(value, Model):
        for publication in pubsub.publications_of(type(value)):
            row = row_of(publication, value, event)
            yield publication.get_payload(row, event)
            if type(row) is not publication.model:  # of a proxy, saved as what it is a proxy of
                yield publication.get_payload(as_parent(row, publication.model), event)
    yield value


def _comparable(payload: str, value: Any) -> str:
    """An entry without what says when and by whom it was published."""
    payload = _META.sub("", payload)
    return _UPDATED.sub("", payload) if isinstance(value, Model) else payload


def _as_json(value: Any) -> str:
    return json.dumps(value, cls=DjangoJSONEncoder)


def _has(field: ET.Element, value: Any) -> bool:
    """Whether a field of Django's XML has a value."""
    if field.get("rel") == "ManyToManyRel":
        if isinstance(value, str) or not isinstance(value, Iterable):
            return False
        return sorted(str(child.get("pk")) for child in field) == sorted(map(str, value))
    if value is None or field.find("None") is not None:
        return value is None and field.find("None") is not None
    text = "".join(field.itertext())
    try:
        return text == str(value) or _is_same(field.get("type"), text, value)
    except (ValueError, ArithmeticError):
        return False  # the text is of another kind


def _is_same(kind: str | None, text: str, value: Any) -> bool:
    """Whether a text in Django's XML means a value.

    :raises ValueError, ArithmeticError: when it is none of this type.
    """
    if kind == "JSONField":
        return bool(json.loads(text) == json.loads(_as_json(value)))
    if isinstance(value, bool):
        return False  # it is written as str() writes it
    if kind in ("DecimalField", "FloatField") and isinstance(value, (int, float, Decimal)):
        return bool((float if isinstance(value, float) else Decimal)(text) == value)
    if isinstance(value, datetime):
        return parse_datetime(text) == value
    if isinstance(value, (date, time)):
        return text == value.isoformat()
    if isinstance(value, timedelta):
        return parse_duration(text) == value
    if isinstance(value, (bytes, memoryview)):
        return text == b64encode(value).decode()
    return False
