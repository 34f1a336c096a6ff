"""pubsub/admissions.py and its like, without a server: what is refused before anything is sent."""

from concurrent.futures import Future
from itertools import cycle

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.db import connection

from pubsub import admissions, authorize, end_sessions, nodes, recheck, revoke, rules
from pubsub.admissions import admit, find_user, rows_of
from pubsub.backends import get_backend
from pubsub.backends.base import BaseBackend
from pubsub.exceptions import (
    BackendError,
    ConnectError,
    InvalidNode,
    PubSubError,
    RequestRefused,
    RequestTimeout,
)
from pubsub.futures import failed, resolved
from pubsub.models import Admission
from pubsub.wire.answers import Subscription

ADA = User(pk=5, username="ada")


class Server(BaseBackend):
    """Whose answers to set_affiliations() the test gives; who is subscribed, too."""

    manages_nodes = True

    def __init__(self):
        self.telling = Future()
        self.subscribers = cycle([["5@users.localhost"]])
        self.ending = resolved(None)

    def set_affiliations(self, node, affiliations):
        return self.telling

    def get_affiliations(self, node):
        return resolved({})

    def get_subscriptions(self, node):
        return resolved([Subscription(jid, "subscribed") for jid in next(self.subscribers)])

    def set_subscriptions(self, node, states):
        return self.ending


class Replicated:
    """Reads from a database that lags behind."""

    def db_for_read(self, model, **hints):
        return "other"

    def db_for_write(self, model, **hints):
        return "default"


@pytest.fixture
def server(settings):
    settings.PUBSUB_BACKEND = f"{__name__}.Server"
    return get_backend()


@pytest.fixture
def node():
    """A node that everybody may read who is logged in."""

    def may(user):
        return True

    authorize("/admissions")(may)
    yield "/admissions"
    rules.withdraw(may)


@pytest.fixture
def ada(db):
    return User.objects.create_user("ada")


def rows():
    return list(Admission.objects.values_list("node", "is_settled"))


CALLS = [
    lambda: revoke(ADA, "/a"),
    lambda: recheck("/a"),
    lambda: end_sessions(ADA),
    lambda: nodes.set_subscriptions("/a", {}),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("backend", ["locmem.Locmem", "console.Console", "dummy.Dummy"])
def test_without_a_server_nothing_can_be_taken_away(settings, call, backend):
    settings.PUBSUB_BACKEND = f"pubsub.backends.{backend}Backend"
    with pytest.raises(BackendError, match="talks to no server"):
        call()


@pytest.mark.parametrize("user", [AnonymousUser(), 5, None])
def test_only_users_have_something_to_lose(user):
    with pytest.raises(TypeError):
        revoke(user, "/a")
    with pytest.raises(TypeError):
        end_sessions(user)


def test_a_user_who_was_never_saved_has_nothing():
    with pytest.raises(ValueError, match="save it first"):
        revoke(User(), "/a")


@pytest.mark.parametrize("node", ["", "\0", "n" * 9000])
def test_what_is_no_node_is_refused(node):
    with pytest.raises(InvalidNode):
        revoke(ADA, node)
    with pytest.raises(InvalidNode):
        recheck(node)


def test_no_node_is_taken_for_another_by_a_database_that_ignores_case(db):
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE pubsub_admission")
        cursor.execute(
            "CREATE TABLE pubsub_admission (id integer primary key, name text, at text, "
            "is_settled bool, node text COLLATE NOCASE, digest text COLLATE NOCASE)"
        )
    for node in ("/team", "/Team"):
        Admission.objects.create(name="5", node=node)
    assert [row.node for row in rows_of(node="/team")] == ["/team"]


@pytest.mark.django_db(databases=["default", "other"])
def test_a_replica_is_not_asked_what_somebody_still_may(settings, ada):
    User(pk=ada.pk, username="ada", is_staff=True).save(using="other")
    Admission(name=str(ada.pk), node="/team").save(using="other")
    settings.DATABASE_ROUTERS = [f"{__name__}.Replicated"]
    assert not find_user(str(ada.pk)).is_staff
    assert list(rows_of()) == []


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["x", "", "9" * 30, "-1", "5.0"])
def test_a_key_that_is_no_users_finds_nobody(key):
    assert find_user(key) is None


@pytest.mark.django_db
def test_a_user_is_found_by_his_key():
    user = User.objects.create_user("ada")
    assert find_user(str(user.pk)) == user


def test_what_the_server_was_not_told_in_time_leaves_nothing(server, node, ada):
    with pytest.raises(RequestTimeout):
        admit(ada, node, within=0)
    assert (server.telling.cancelled(), rows()) == (True, [])


def test_who_is_being_let_in_is_waited_for_until_the_server_has_answered(
    server, node, ada, monkeypatch
):
    monkeypatch.setattr(admissions, "run", lambda act, **options: act())
    server.telling.set_running_or_notify_cancel()
    for _ in range(3):
        with pytest.raises(RequestTimeout):
            admit(ada, node, within=0)
    assert rows() == [(node, False)] * 3
    server.telling.set_exception(ConnectError("here:1", "nobody"))
    assert rows() == [(node, True)]


def test_who_comes_back_whatever_is_done_is_said_to_be_there(server, node):
    server.telling = resolved(None)
    with pytest.raises(PubSubError, match="was not put out"):
        admissions._put_out("5@users.localhost", node)


def test_who_was_put_out_by_somebody_else_meanwhile_is_out(server, node):
    server.telling = resolved(None)
    server.subscribers = iter([["5@users.localhost/page"], []])
    server.ending = failed(RequestRefused("bad-request", pubsub_condition="not-subscribed"))
    admissions._put_out("5@users.localhost", node)
    server.subscribers = iter([["5@users.localhost/page"], []])
    server.ending = failed(RequestRefused("forbidden"))
    with pytest.raises(RequestRefused, match="forbidden"):
        admissions._put_out("5@users.localhost", node)
