"""pubsub/checks/publications.py: one test per id."""

from datetime import timedelta

import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.db import OperationalError, models
from django.test.utils import isolate_apps

from pubsub import Publication, authorize, pubsub, rules
from pubsub.checks import check_publications
from tests.testapp.models import Author, Badge, Penname, Person, Place, Post, Restaurant


def ids():
    return [message.id for message in check_publications()]


@pytest.fixture
def rule():
    """A rule for all nodes."""

    def may(user, node):
        return False

    authorize("<path:node>")(may)
    yield may
    rules.withdraw(may)


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (Post, {}),
        (Post, {"fields": "__all__", "exclude": ["body"], "m2m": ["readers"]}),
        (Post, {"fields": ["title", "author", "readers"], "events": ["created"]}),
        (Restaurant, {"fields": ["name", "stars", "guests"], "m2m": ("guests",)}),
        (Person, {"item_id": "email", "throttle": 0.5, "expire": timedelta(hours=1)}),
        (Post, {"item_id": None, "events": {"created", "deleted"}, "max_items": "max"}),
        (Post, {"format": "json", "publish_model": "publishers", "max_items": 10}),
        (Post, {"format": "django.core.serializers.json.Serializer", "access": "open"}),
        (Post, {"node": ["/a", "/b"]}),
        (Post, {"node": ()}),
    ],
)
def test_options_that_make_sense_are_no_problem(register, model, options):
    register(model, **options)
    assert ids() == []


@pytest.mark.parametrize(
    ("expected", "options", "says"),
    [
        ("pubsub.E014", {"fields": "title"}, "fields = ['title']"),
        ("pubsub.E014", {"events": "created"}, "events = ['created']"),
        ("pubsub.E014", {"exclude": "body"}, "no list of names"),
        ("pubsub.E014", {"m2m": "readers"}, "no list of names"),
        ("pubsub.E014", {"events": None}, "no list of names"),
        ("pubsub.E014", {"exclude": b"body"}, "no list of names"),
        ("pubsub.E015", {"events": ["created", "saved"]}, "'saved', which never happens"),
        ("pubsub.E016", {"fields": ["title", "headline"]}, "'headline', which the model does not"),
        ("pubsub.E016", {"fields": ["pk"]}, "Its fields are id, title"),
        ("pubsub.E017", {"exclude": ["headline"]}, "'headline'"),
        ("pubsub.E018", {"m2m": ["author"]}, "It has readers"),
        ("pubsub.E018", {"m2m": ["nobody"]}, "'nobody'"),
        ("pubsub.E018", {"m2m": [["readers"]]}, "['readers']"),
        ("pubsub.E019", {"item_id": "title"}, "overwrite each other"),
        ("pubsub.E019", {"item_id": "slug"}, "'slug' is no unique field"),
        ("pubsub.E019", {"item_id": ["id"]}, "no unique field"),
        ("pubsub.E020", {"item_id": None, "throttle": 1}, "no effect on a log"),
        ("pubsub.E021", {"format": "yaml"}, "Choose 'xml', 'json', 'atom'"),
        ("pubsub.E021", {"format": "no.such.Serializer"}, "No module named"),
        ("pubsub.E021", {"format": "os.path"}, "neither a serializer class nor a function"),
        ("pubsub.E021", {"format": "os.sep"}, "neither a serializer class nor a function"),
        ("pubsub.E021", {"format": None}, "format = None cannot be used: None is no text"),
        ("pubsub.E021", {"format": 7}, "7 is no text, but of type int"),
        ("pubsub.E022", {"access": "public"}, "Choose 'open', 'private'"),
        ("pubsub.E022", {"access": ["open"]}, "Choose 'open', 'private'"),
        ("pubsub.E023", {"max_items": 0}, "no positive number"),
        ("pubsub.E030", {"publish_model": "open"}, "Choose 'publishers', 'members'"),
        ("pubsub.E030", {"publish_model": ["members"]}, "Choose 'publishers', 'members'"),
        ("pubsub.E031", {"publish_model": "members"}, 'Set access = "private"'),
        ("pubsub.E031", {"publish_model": "members", "access": "open"}, "would let everybody"),
        ("pubsub.E023", {"max_items": 1.5}, "whole number"),
        ("pubsub.E023", {"expire": "1h"}, "seconds, or a timedelta"),
        ("pubsub.E023", {"throttle": -1}, "no positive number"),
        ("pubsub.E023", {"throttle": timedelta()}, "no positive number"),
        ("pubsub.E023", {"max_items": True}, "no positive number"),
        ("pubsub.E024", {"node": ""}, "must not be empty"),
        ("pubsub.E024", {"node": ["/a", 7]}, "named by a str"),
        ("pubsub.E024", {"node": "/\x08"}, "cannot carry"),
    ],
)
def test_each_problem_has_its_id_and_says_what_to_do(register, expected, options, says):
    register(Post, **options)
    (message,) = check_publications()
    assert message.id == expected
    assert message.obj is Post
    assert says in f"{message.msg} {message.hint}"
    assert repr(next(iter(options.values()))) in message.msg or len(options) > 1


def shouted(instance):
    return str(instance).upper()


@pytest.mark.parametrize("options", [{"fields": ["title"]}, {"exclude": ["body"]}])
def test_a_serializer_that_does_not_know_of_fields_is_warned_of(register, options):
    register(Post, format=f"{__name__}.shouted", **options)
    (message,) = check_publications()
    assert message.id == "pubsub.W005"


def test_a_serializer_that_is_not_told_of_fields_is_no_problem(register):
    register(Post, format=f"{__name__}.shouted")
    register(Author, format="django.core.serializers.json.Serializer", fields=["name"])
    assert ids() == []


def test_a_problem_is_told_under_the_name_of_its_class(register):
    class Headlines(Publication):
        fields = ("headline",)

    register(Post, Headlines)
    (message,) = check_publications()
    assert message.msg.startswith("Headlines for testapp.Post: fields = ('headline',)")


def test_two_publications_of_one_node_want_it_to_be_the_same(register):
    register(Author, node="/all", max_items=10, item_id=None)
    register(Badge, node=["/badges", "/all"], max_items=10, item_id=None)
    assert ids() == []
    register(Place, node="/all", max_items=7, item_id=None)
    (message,) = check_publications()
    assert message.id == "pubsub.E025"
    assert "testapp.Place and testapp.Author" in message.msg


def test_rows_of_two_models_overwrite_each_other_on_one_node(register):
    class ByName(Publication):
        node = "/all"

        def get_item_id(self, instance):
            return f"{instance._meta.label}-{instance.pk}"

    register(Author, node="/all")
    register(Penname, node="/all")  # the same rows
    register(Badge, ByName)
    assert ids() == []
    register(Place, node="/all")
    (message,) = check_publications()
    assert message.id == "pubsub.W004"
    assert "testapp.Place and testapp.Author" in message.msg


def test_a_warning_does_not_keep_shared_nodes_from_being_looked_at(register):
    register(Author, node="/all", max_items=10)
    register(Place, node="/all", format=f"{__name__}.shouted", fields=["name"])
    assert ids() == ["pubsub.W005", "pubsub.E025", "pubsub.W004"]


def test_an_error_does(register):
    register(Author, node="/all", max_items=10)
    register(Place, node="/all", access="public")
    assert ids() == ["pubsub.E022"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (lambda: {}[7], r"get_configuration('/all') fails: KeyError: 7"),
        (lambda: None, "Mine.get_configuration() returned None of type NoneType"),
        (lambda: "open", "Mine.get_configuration() returned 'open' of type str"),
    ],
)
def test_a_configuration_that_nobody_can_tell_is_an_error(register, answer, says):
    class Mine(Publication):
        node = "/all"

        def get_configuration(self, node):
            return answer()

    register(Author, node="/all", item_id=None)
    register(Place, Mine, item_id=None)
    (message,) = check_publications()
    assert message.id == "pubsub.E026"
    assert message.obj is Place
    assert message.msg.startswith("Mine for testapp.Place: get_configuration('/all') fails: ")
    assert says in message.msg


def test_a_configuration_that_is_read_from_the_database_waits_for_its_tables(register):
    class Mine(Publication):
        node = "/all"

        def get_configuration(self, node):
            raise OperationalError("no such table")

    register(Author, Mine, item_id=None)
    register(Place, node="/all", item_id=None)
    assert ids() == []


@isolate_apps("tests.testapp")
def test_a_relation_through_a_model_of_its_own_is_warned_of(register):
    class Member(models.Model):  # noqa: DJ008 (no rows are made of it)
        class Meta:
            app_label = "testapp"

    class Club(models.Model):  # noqa: DJ008 (no rows are made of it)
        members = models.ManyToManyField(Member, through="Membership", related_name="+")
        friends = models.ManyToManyField(Member, related_name="+")

        class Meta:
            app_label = "testapp"

    class Membership(models.Model):  # noqa: DJ008 (no rows are made of it)
        member = models.ForeignKey(Member, models.CASCADE)
        club = models.ForeignKey(Club, models.CASCADE)

        class Meta:
            app_label = "testapp"

    class ByHand(Publication):
        def get_payload(self, instance, event):
            return {}

    for options in ({"fields": ["members"]}, {"m2m": ["members", "friends"]}):
        register(Club, **options)
        (message,) = check_publications()
        assert message.id == "pubsub.W006"
        assert "Club: 'members' goes through a model of its own" in message.msg
        assert "publish_rows" in message.hint
        assert "get_payload" in message.hint
        pubsub.unregister(Club)
    for options in ({}, {"m2m": ["friends"]}, {"m2m": ["members"], "exclude": ["members"]}):
        register(Club, **options)
        assert ids() == (["pubsub.W006"] if "exclude" in options else [])
        pubsub.unregister(Club)
    register(Club, ByHand, fields=["members"])
    assert ids() == []


class Mixin:
    feilds = ("title",)


class Misspelt(Mixin, Publication):
    def get_node(self, instance, event):
        return "/secret"


class Spelt(Publication):
    fields = ("title",)
    FIELDS = fields
    _feilds = fields
    title_of = str
    Meta = None

    def get_nodes(self, instance, event):
        return "/secret"

    def describe(self, instance):
        return ""


def test_names_that_are_almost_those_of_options_and_hooks_are_warned_of(register):
    register(Post, Misspelt, max_items=7)
    messages = check_publications()
    assert [message.id for message in messages] == ["pubsub.W007", "pubsub.W007"]
    assert "Misspelt for testapp.Post: 'get_node' is no option" in messages[0].msg
    assert "'get_nodes' would" in messages[0].msg
    assert "Mixin for testapp.Post: 'feilds'" in messages[1].msg
    assert "Call it 'fields'" in messages[1].hint


def test_other_names_are_no_problem(register):
    register(Post, Spelt)
    assert ids() == []


def test_a_password_for_everybody_is_warned_of(register, rule):
    fields = {"password": models.CharField(max_length=100), "__module__": __name__}
    meta = type("Meta", (), {"app_label": "testapp"})
    account = type("Account", (models.Model,), {**fields, "Meta": meta})
    try:
        register(account, access="private")
        assert ids() == []
        pubsub.unregister(account)
        register(account)
        assert ids() == ["pubsub.W003"]
        pubsub.unregister(account)
        register(account, exclude=["password"])
        assert ids() == []
    finally:
        del apps.all_models["testapp"]["account"]
        apps.clear_cache()


def test_the_checks_run_with_djangos(register):
    register(Post, events=["saved"])
    assert "pubsub.E015" in [message.id for message in run_checks(tags=["pubsub"])]
    with pytest.raises(SystemCheckError, match=r"pubsub\.E015"):
        call_command("check")


def test_private_nodes_with_a_rule_are_no_problem(register, rule):
    register(Post, access="private", publish_model="members")
    assert ids() == []


def test_a_node_that_a_rule_makes_private_is_not_open(register, rule):
    register(Post, access="open")
    assert ids() == ["pubsub.W008"]


def test_a_private_node_that_lets_nobody_in_is_warned_of(register):
    register(Post, node=["/a", "/b"], access="private")
    assert ids() == ["pubsub.W009", "pubsub.W009"]
