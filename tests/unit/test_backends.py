"""pubsub/backends: the ones that need no server, and how one is chosen."""

from concurrent.futures import Future

import pytest

from pubsub import nodes, publish, retract
from pubsub.backends import get_backend
from pubsub.backends.base import BaseBackend
from pubsub.exceptions import BackendError
from pubsub.items import make_item

SERVERLESS = ["console.ConsoleBackend", "locmem.LocmemBackend", "dummy.DummyBackend"]


@pytest.fixture(params=SERVERLESS)
def serverless(request, settings):
    settings.PUBSUB_BACKEND = f"pubsub.backends.{request.param}"


def test_every_backend_resolves_to_an_id(serverless):
    item = make_item("/home", "Hello")
    assert get_backend().send(item).result(0)
    assert get_backend().send(make_item("/home", "Hello", id="7")).result(0) == "7"


def test_backends_without_a_server_say_so_when_nodes_are_asked_for(serverless):
    for ask in (nodes.items, nodes.subscriptions, nodes.affiliations, nodes.configuration):
        with pytest.raises(BackendError, match="Backend has no get_"):
            ask("/home")
    for change in (nodes.create, nodes.configure, nodes.delete):
        with pytest.raises(BackendError, match="_node"):
            change("/home")
    with pytest.raises(BackendError, match="Backend has no set_affiliations"):
        nodes.set_affiliations("/home", {"ada@localhost": "member"})
    with pytest.raises(BackendError, match=r"^PUBSUB_BACKEND = 'pubsub\.backends\..* Set it to"):
        nodes.count("/home")
    with pytest.raises(BackendError, match="Backend has no get_nodes"):
        nodes.names()
    with pytest.raises(BackendError, match=r"Backend has no listen\(\)"):
        nodes.listen("/home")


def test_the_console_shows_what_is_published(settings, capsys, db):
    settings.PUBSUB_BACKEND = "pubsub.backends.console.ConsoleBackend"
    with_payload = "/home 7 published\n<entry "
    backend = get_backend()
    backend.send(make_item("/home", "Hello", id="7"))
    out = capsys.readouterr().out
    assert out.startswith(with_payload)
    assert out.endswith(">Hello</entry>\n")


@pytest.mark.django_db(transaction=True)
def test_the_console_shows_retractions(settings, capsys):
    settings.PUBSUB_BACKEND = "pubsub.backends.console.ConsoleBackend"
    retract("/home", "7")
    assert capsys.readouterr().out == "/home 7 deleted\n"


def test_a_backend_is_made_once(serverless):
    assert get_backend() is get_backend()


def test_a_change_of_settings_closes_the_backend(settings):
    closed = []

    settings.PUBSUB_BACKEND = f"{__name__}.Closing"
    Closing.closed = closed
    get_backend()
    settings.XMPP_JID = "other@localhost"
    assert closed == [True]


class Closing(BaseBackend):
    closed: list[bool] = []

    def close(self):
        self.closed.append(True)


def test_a_backend_must_define_send(settings):
    settings.PUBSUB_BACKEND = f"{__name__}.Closing"
    Closing.closed = []
    with pytest.raises(NotImplementedError, match="Closing must define send"):
        get_backend().send(make_item("/home", "Hello"))


@pytest.mark.django_db(transaction=True)
def test_a_backend_of_the_users_own_is_used(settings):
    settings.PUBSUB_BACKEND = f"{__name__}.Own"
    assert publish("/home", "Hello").result(0) == "mine"
    assert Own.sent == ["/home"]


class Own(BaseBackend):
    sent: list[str] = []

    def send(self, item):
        self.sent.append(item.node)
        future = Future()
        future.set_result("mine")
        return future
