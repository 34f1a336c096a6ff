"""pubsub/rechecking.py and manage.py pubsub_recheck: what fails about one keeps nobody else in."""

import io

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from pubsub import recheck, rechecking, runners
from pubsub.backends import get_backend
from pubsub.backends.base import BaseBackend
from pubsub.exceptions import ConnectError, RequestRefused, RequestTimeout
from pubsub.futures import resolved
from pubsub.management.commands import pubsub_recheck
from pubsub.models import Admission
from pubsub.rechecking import for_each, recheck_user, recheck_users

FORBIDDEN = RequestRefused("forbidden")
SILENT = RequestTimeout("silent")
AWAY = ConnectError("here:1", "nobody listens")


class Server(BaseBackend):
    """Has two nodes, and perhaps trouble."""

    manages_nodes = True
    why = None

    def trouble(self):
        return self.why

    def get_nodes(self):
        return resolved([])


@pytest.fixture
def server(settings):
    settings.PUBSUB_BACKEND = f"{__name__}.Server"
    return get_backend()


@pytest.fixture
def failing(monkeypatch):
    """What putting out fails with; and who was put out of what."""
    errors, done = {}, []

    def put_out(key, node):
        if node in errors:
            raise errors[node]
        done.append((key, node))

    monkeypatch.setattr(rechecking, "put_out", put_out)
    return errors, done


@pytest.fixture
def ada(db, server):
    return admitted("ada")


def admitted(name):
    user = User.objects.create_user(name)
    for node in ("/a", "/b", "/c"):
        Admission.objects.create(name=str(user.pk), node=node, is_settled=True)
    return user


def test_a_node_that_refuses_keeps_nobody_on_the_others(ada, failing, caplog):
    errors, done = failing
    errors.update({"/a": FORBIDDEN, "/b": SILENT})
    key = str(ada.pk)
    with pytest.raises(RequestTimeout):  # it may go better another time
        recheck_user(key)
    assert done == [(key, "/c")]
    assert str(FORBIDDEN) in caplog.text


def test_a_user_who_cannot_be_put_out_keeps_no_other_in(ada, failing):
    errors, done = failing
    errors["/a"] = FORBIDDEN
    bo = admitted("bo")
    with pytest.raises(RequestRefused):
        recheck_users([str(ada.pk), "x" * 600, str(bo.pk)])
    assert {key for key, _ in done} == {str(ada.pk), str(bo.pk)}


def test_all_attempts_together_tell_who_was_revoked(server, monkeypatch):
    attempts = iter([("5@users.localhost", AWAY), ("6@users.localhost", None)])

    def recheck_node(node, tell):
        jid, error = next(attempts)
        tell(jid)
        if error is not None:
            raise error

    monkeypatch.setattr(rechecking, "recheck_node", recheck_node)
    monkeypatch.setattr(runners, "delay", lambda failures: 0)
    monkeypatch.setattr("pubsub.errands.waits_for_commit", lambda using: False)
    assert recheck("/a").result(20) == ["5@users.localhost", "6@users.localhost"]


def test_of_a_server_that_is_away_nothing_more_is_asked(server):
    asked = []

    def act(value):
        asked.append(value)
        server.why = AWAY
        raise AWAY

    with pytest.raises(ConnectError):
        for_each([1, 2], act)
    assert asked == [1]


def test_the_command_asks_about_all_nodes_and_fails_in_the_end(ada, monkeypatch):
    def recheck_node(node, tell):
        if node == "/a":
            raise FORBIDDEN
        tell("5@users.localhost")

    monkeypatch.setattr(pubsub_recheck, "recheck_node", recheck_node)
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(CommandError, match="Not all was asked"):
        call_command("pubsub_recheck", "--skip-checks", stdout=out, stderr=err)
    assert out.getvalue() == "5@users.localhost is out of /b\n5@users.localhost is out of /c\n"
    assert err.getvalue() == f"/a: {FORBIDDEN}\n"
