"""Tests of pubsub.checks.outbox."""

import pytest

from pubsub.checks import check_outbox, check_settings
from tests.testapp.models import Author

OUTBOX = "pubsub.backends.outbox.OutboxBackend"
LOCMEM = "pubsub.backends.locmem.LocmemBackend"


class NoOutbox:
    """Keeps the tables of pubsub out of one database, and everything else in it."""

    def db_for_write(self, model, **hints):
        return "other"

    def allow_migrate(self, db, app_label, **hints):
        return not (db == "other" and app_label == "pubsub")


def ids(messages):
    return [message.id for message in messages]


@pytest.fixture(autouse=True)
def outbox(settings):
    settings.PUBSUB_BACKEND = OUTBOX
    settings.PUBSUB_RELAY_BACKEND = LOCMEM


def test_an_outbox_with_somebody_who_sends_is_fine():
    assert check_outbox() == []
    assert check_settings() == []


def test_the_account_of_the_relay_is_checked(settings):
    settings.PUBSUB_RELAY_BACKEND = "pubsub.backends.xmpp.XMPPBackend"
    assert ids(check_settings()) == ["pubsub.E003"]


def test_a_relay_that_is_no_backend_is_named(settings):
    settings.PUBSUB_RELAY_BACKEND = "nowhere.Backend"
    (error,) = check_outbox()
    assert error.id == "pubsub.E027"
    assert "PUBSUB_RELAY_BACKEND = 'nowhere.Backend' cannot be imported" in error.msg
    assert check_settings() == []


def test_an_outbox_that_fills_itself_is_an_error(settings):
    settings.PUBSUB_RELAY_BACKEND = OUTBOX
    assert ids(check_outbox()) == ["pubsub.E028"]


def test_saves_into_a_database_without_an_outbox_are_an_error(settings, register):
    settings.DATABASE_ROUTERS = [NoOutbox()]
    register(Author)
    (error,) = check_outbox()
    assert error.id == "pubsub.E029"
    assert "Saves of testapp.Author go to the database 'other'" in error.msg


def test_without_an_outbox_nothing_is_checked(settings):
    settings.PUBSUB_BACKEND = LOCMEM
    settings.PUBSUB_RELAY_BACKEND = OUTBOX
    assert check_outbox() == []
