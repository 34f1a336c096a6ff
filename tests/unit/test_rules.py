"""pubsub/rules.py: who may read which private nodes."""

import asyncio
import importlib
import logging
import sys
import uuid

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import (
    ImproperlyConfigured,
    ObjectDoesNotExist,
    PermissionDenied,
    SynchronousOnlyOperation,
)
from django.http import Http404
from django.urls import register_converter
from django.urls.converters import REGISTERED_CONVERTERS, get_converters

from pubsub import Publication, authorize, may_read, nodes, publish, rules
from pubsub.rules import allows, rule_of
from tests.testapp.models import Author, Post

ADA = User(pk=5, username="ada")


@pytest.fixture(autouse=True)
def without_rules(monkeypatch):
    monkeypatch.setattr(rules, "_rules", [])
    rule_of.cache_clear()
    yield
    rule_of.cache_clear()


def test_a_rule_is_asked_about_the_nodes_that_its_pattern_matches():
    asked = []

    @authorize("/blog/Blog/<int:pk>", "/<slug:app>/all")
    def may(user, **arguments):
        asked.append((user, arguments))
        return True

    assert allows(ADA, "/blog/Blog/7")
    assert allows(ADA, "/blog/all")
    assert not allows(ADA, "/blog/Blog/x")
    assert not allows(ADA, "/blog/Blog/7/more")
    assert not allows(ADA, "/blog/Blog/7\n")
    assert not allows(ADA, "prefix/blog/Blog/7")
    assert asked == [(ADA, {"pk": 7}), (ADA, {"app": "blog"})]


def test_the_first_pattern_that_matches_decides():
    authorize("/a/<int:pk>")(lambda user, pk: pk == 1)
    authorize("/a/<str:name>")(lambda user, name: True)
    assert [allows(ADA, f"/a/{name}") for name in ("1", "2", "x")] == [True, False, True]


@pytest.mark.parametrize("user", [AnonymousUser(), None, User(pk=5, is_active=False)])
def test_who_is_not_logged_in_or_not_active_is_never_asked_about(user):
    authorize("/a")(lambda user: pytest.fail("asked"))
    assert not allows(user, "/a")


@pytest.mark.parametrize("answer", [1, None, "yes", [1], object()])
def test_what_is_neither_true_nor_false_counts_as_no_and_is_logged(answer, caplog):
    authorize("/a")(lambda user: answer)
    assert not allows(ADA, "/a")
    assert "has to answer True or False" in caplog.text
    assert "<lambda>, asked about user 5 on '/a'" in caplog.text


def test_a_rule_that_fails_counts_as_no_and_is_logged(caplog):
    authorize("/a")(lambda user: 1 / 0)
    assert not allows(ADA, "/a")
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("error", [Http404("x"), ObjectDoesNotExist("x"), PermissionDenied("x")])
def test_what_django_raises_to_say_no_is_no_failure(error, caplog):
    @authorize("/a")
    def may(user):
        raise error

    with caplog.at_level(logging.INFO):
        assert not allows(ADA, "/a")
    assert [record.levelname for record in caplog.records] == ["INFO"]


@pytest.mark.parametrize("patterns", [(), (5,), ("/a/<nonsense:pk>",), ("/a/<int:5>",)])
def test_what_is_no_pattern_is_refused_where_it_is_written(patterns):
    with pytest.raises(ImproperlyConfigured, match="authorize"):
        authorize(*patterns)


def test_a_rule_is_an_ordinary_function():
    async def may(user):
        return True

    for function in (may, "name", None):
        with pytest.raises(TypeError, match="ordinary function"):
            authorize("/a")(function)


class Hexadecimal:
    regex = "[0-9a-f]+"

    def to_python(self, value):
        return int(value, 16)

    def to_url(self, value):
        return f"{value:x}"


@pytest.fixture
def converter():
    """register_converter, undone after the test."""
    before = dict(REGISTERED_CONVERTERS)
    yield register_converter
    for name in REGISTERED_CONVERTERS.keys() - before.keys():
        del REGISTERED_CONVERTERS[name]
    get_converters.cache_clear()


def test_converters_of_the_site_work(converter):
    converter(Hexadecimal, "hex")
    authorize("/a/<hex:number>")(lambda user, number: number == 255)
    assert allows(ADA, "/a/ff")
    assert not allows(ADA, "/a/fe")


class OfRows:
    """A converter that finds a row, or fails as Django's do."""

    regex = "[a-z]+"
    rows = {}
    error = ValueError

    def to_python(self, value):
        if value not in self.rows:
            raise self.error(value)
        return self.rows[value]

    def to_url(self, value):
        return str(value)


@pytest.mark.parametrize("error", [ValueError, Author.DoesNotExist, RuntimeError])
def test_a_node_is_its_rules_before_the_converter_finds_a_row(converter, monkeypatch, error):
    monkeypatch.setattr(OfRows, "rows", {})
    monkeypatch.setattr(OfRows, "error", error)
    converter(OfRows, "row")
    authorize("/team/<row:team>")(lambda user, team: True)
    authorize("/team/<str:team>")(lambda user, team: pytest.fail("the rule below was asked"))
    assert not allows(ADA, "/team/soon")
    assert nodes.is_private("/team/soon")
    assert not may_read(AnonymousUser(), "/team/soon")
    OfRows.rows["soon"] = 1
    assert allows(ADA, "/team/soon")


def test_a_number_too_long_to_be_one_is_not_open():
    authorize("/a/<int:pk>")(lambda user, pk: True)
    assert nodes.is_private(f"/a/{'9' * 5000}")
    assert not allows(ADA, f"/a/{'9' * 5000}")


def test_uuids_are_converted():
    key = uuid.uuid4()
    authorize("/a/<uuid:found>")(lambda user, found: found == key)
    assert allows(ADA, f"/a/{key}")


def test_a_module_that_is_loaded_again_replaces_its_rules(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    name = f"rules_{uuid.uuid4().hex}"
    text = "import pubsub\n\n@pubsub.authorize('/a')\ndef may(user):\n    return {}\n"
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / f"{name}.py").write_text(text.format(True))
    module = importlib.import_module(name)
    assert allows(ADA, "/a")
    (tmp_path / f"{name}.py").write_text(text.format("not True"))
    importlib.reload(module)
    assert not allows(ADA, "/a")
    assert len(rules._rules) == 1


def test_a_rule_that_is_written_later_is_found():
    assert rule_of("/a") is None
    authorize("/a")(lambda user: True)
    assert rule_of("/a") is not None


def test_a_rule_that_is_withdrawn_decides_no_more():
    def may(user):
        return True

    authorize("/a", "/b")(may)
    rules.withdraw(may)
    assert rule_of("/a") is rule_of("/b") is None


def test_a_rule_makes_a_node_private_whatever_is_said_of_it(register):
    register(Author, access="open", max_items=7)
    authorize("/testapp/Author", "/by/hand")(lambda user: True)
    assert nodes.declared("/testapp/Author") == {"max_items": 7, "access_model": "whitelist"}
    assert nodes.declared("/by/hand") == {"access_model": "whitelist"}
    assert nodes.is_private("/by/hand")
    assert not nodes.is_private("/another")


@pytest.mark.django_db(transaction=True)
def test_items_bear_it_from_rows_and_by_hand(register, sent):
    register(Author, access="open")
    authorize("/testapp/Author")(lambda user: True)
    Author.objects.create(name="Ada")
    publish("/testapp/Author", "by hand")
    assert [item.configuration for item in sent] == [{"access_model": "whitelist"}] * 2


def test_what_a_user_may_read_can_be_asked(register):
    register(Author, access="private")
    authorize("/ruled")(lambda user: user.pk == 5)
    assert [may_read(ADA, node) for node in ("/ruled", "/testapp/Author", "/open")] == [
        *(True, False, True)
    ]
    guest = AnonymousUser()
    assert [may_read(guest, node) for node in ("/ruled", "/testapp/Author", "/open")] == [
        *(False, False, True)
    ]
    assert not may_read(User(pk=6), "/ruled")


@pytest.mark.parametrize("model", ["whitelist", "presence", "roster", "authorize"])
def test_a_node_that_only_some_may_subscribe_to_is_not_open(register, settings, model):
    settings.PUBSUB_NODE_DEFAULTS = {"access_model": model}
    register(Author, access="open")
    assert not may_read(AnonymousUser(), "/a")
    assert may_read(AnonymousUser(), "/testapp/Author")


class ByRow(Publication):
    def get_nodes(self, instance, event):
        return f"/by/row/{instance.pk}"


class ByHook(ByRow):
    def get_configuration(self, node):
        return {"access_model": "whitelist"}


@pytest.mark.parametrize(("publication", "options"), [(ByRow, {"access": "private"}), (ByHook, {})])
def test_what_may_be_a_private_node_of_a_row_is_not_open(register, publication, options):
    register(Author, publication, **options)
    register(Post, access="open")
    guest = AnonymousUser()
    assert not may_read(guest, "/by/row/5")
    assert may_read(guest, "/testapp/Post")
    authorize("/by/row/<int:pk>")(lambda user, pk: pk == 5)
    assert [may_read(ADA, f"/by/row/{pk}") for pk in (5, 6)] == [True, False]


def test_open_nodes_of_rows_are_open(register):
    register(Author, ByRow)
    assert may_read(AnonymousUser(), "/by/row/5")


@pytest.mark.django_db
def test_where_the_rule_cannot_ask_the_database_there_is_no_answer():
    authorize("/a")(lambda user: Author.objects.exists())

    async def view():
        return may_read(ADA, "/a")

    with pytest.raises(SynchronousOnlyOperation):
        asyncio.run(view())
    assert not may_read(ADA, "/a")
