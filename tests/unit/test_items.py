"""pubsub/items.py: what is published is complete, and what would break a stream is refused."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timezone
from uuid import UUID

import pytest

from pubsub.context import origin_of, originating
from pubsub.exceptions import InvalidItem, InvalidNode, PubSubError
from pubsub.items import (
    MAX_ID,
    MAX_NODE,
    Item,
    make_item,
    make_retraction,
    now,
    valid_configuration,
)
from pubsub.payloads import unwritten
from pubsub.rowxml import freeze
from tests.testapp.models import Author


def test_the_time_of_an_item_is_utc():
    before = datetime.now(timezone.utc)
    assert before <= make_item("/node", "").at <= datetime.now(timezone.utc)


def test_the_primary_key_is_the_id_of_an_instances_item():
    assert make_item("/node", Author(pk=7)).id == "7"
    assert make_item("/node", Author(pk=7), id="other").id == "other"
    assert make_item("/node", Author()).id is None


@pytest.mark.parametrize(
    ("node", "says"),
    [
        ("", "empty"),
        ("/" + "x" * MAX_NODE, "8,193 bytes"),
        ("/\0", "position 1"),
        ("/\ud800", "cannot carry"),
    ],
)
def test_node_names_that_no_server_takes_are_refused(node, says):
    with pytest.raises(InvalidNode, match=says):
        make_item(node, "Hello")
    with pytest.raises(InvalidNode, match=says):
        make_retraction(node, "1")


@pytest.mark.parametrize("item_id", ["", "x" * (MAX_ID + 1), "\x07"])
def test_ids_that_no_server_takes_are_refused(item_id):
    with pytest.raises(InvalidItem):
        make_item("/node", "Hello", id=item_id)
    with pytest.raises(InvalidItem):
        make_retraction("/node", item_id)


@pytest.mark.parametrize(
    ("node", "item_id"), [(None, "1"), (b"/a", "1"), ("/a", b"1"), ("/a", True), (7, "1")]
)
def test_names_that_are_no_text_are_refused(node, item_id):
    with pytest.raises(TypeError):
        make_retraction(node, item_id)


@pytest.mark.parametrize("key", [7, UUID(int=7)])
def test_a_primary_key_is_an_id_as_it_is(key):
    assert make_retraction("/node", key).id == str(key)


@pytest.mark.parametrize("fields", [{"title": "\x08"}, {"title\uffff": ""}, {"max": "\ud800"}])
def test_a_configuration_that_xml_cannot_carry_is_refused_by_name(fields):
    with pytest.raises(InvalidItem, match=f"configuration '{next(iter(fields))[:3]}"):
        valid_configuration(fields)


def test_a_configuration_that_can_be_written_stays_as_it_is():
    fields = {"title": "Tea & biscuits", "max_items": 10, "persist_items": True}
    assert valid_configuration(fields) is fields


def test_an_invalid_item_is_a_value_error_and_a_pubsub_error():
    assert issubclass(InvalidItem, ValueError)
    assert issubclass(InvalidItem, PubSubError)


def test_a_retraction_has_no_payload():
    item = make_retraction("/node", "7")
    assert (item.id, item.event, item.payload, item.is_retraction) == ("7", "deleted", "", True)


def test_an_item_bears_the_origin_of_what_surrounds_it():
    origin = origin_of("a client's id")
    with originating(origin):
        assert f'origin="{origin}"' in make_item("/node", "Hello").payload
    assert "origin" not in make_item("/node", "Hello").payload


def test_an_item_is_shown_without_its_payload():
    assert repr(make_item("/node", "Hello", id="7")) == (
        "Item(node='/node', id='7', event='published')"
    )


@pytest.mark.parametrize("item_id", ["7", "a/b?c&d", "ü", " ", "a-b"])
def test_an_id_is_taken_as_it_is(item_id):
    assert make_item("/node", "Hello", id=item_id).id == item_id


def test_an_id_of_more_digits_than_python_writes_is_refused():
    with pytest.raises(InvalidItem, match="cannot be written"):
        make_item("/n", "x", id=10**5000)


@pytest.fixture
def lazy():
    """An item whose payload is unwritten."""
    at = now()
    row = freeze(Author(pk=7, name="Ada"), ["name"])
    return Item("/n", "7", "updated", unwritten(row, event="updated", at=at, origin=""), at)


def is_written(item):
    return "payload" in vars(item)


def test_an_unwritten_payload_is_written_when_somebody_asks_and_then_kept(lazy):
    assert not lazy.is_retraction
    assert "7" in repr(lazy)
    assert not is_written(lazy)
    text = lazy.payload
    assert ">Ada</field>" in text
    assert lazy.payload is text
    assert len(vars(lazy)) == len(vars(make_item("/n", "x")))


@pytest.mark.parametrize(
    "copied",
    [copy.copy, copy.deepcopy, replace, lambda item: pickle.loads(pickle.dumps(item))],
    ids=["copy", "deepcopy", "replace", "pickle"],
)
def test_a_copy_of_an_item_that_is_unwritten_equals_it(lazy, copied):
    other = copied(lazy)
    assert other == lazy
    assert other.payload == lazy.payload


def test_what_is_pickled_while_another_thread_writes_is_the_item_all_the_same(lazy):
    held = dict(vars(lazy))
    text = lazy.payload
    vars(lazy).update(held)  # as between two steps of the other one
    assert vars(pickle.loads(pickle.dumps(lazy))) == vars(make_copy(lazy, text))


def make_copy(item, payload):
    """The item as it is when it is written."""
    return replace(item, payload=payload)


def test_several_threads_may_ask_for_what_is_unwritten(lazy):
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: lazy.payload, range(64)))
    assert found == {lazy.payload}


def test_an_item_has_no_other_attributes(lazy):
    for item in (lazy, make_item("/n", "x")):
        with pytest.raises(AttributeError, match="'colour'"):
            item.colour  # noqa: B018
