"""pubsub/checks/settings.py: one test per id."""

import pytest
from django.core.checks import run_checks

from pubsub.checks import check_settings


@pytest.fixture(autouse=True)
def complete(settings):
    settings.PUBSUB_BACKEND = "pubsub.backends.xmpp.XMPPBackend"
    settings.XMPP_PASSWORD = "secret"


def ids():
    return [message.id for message in check_settings()]


def test_a_password_is_all_that_must_be_set():
    assert ids() == []


def test_the_checks_run_with_djangos():
    assert [m for m in run_checks(tags=["pubsub"]) if m.id.startswith("pubsub.")] == []


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        ("pubsub.E001", {"PUBSUB_BACKEND": "no.such.Backend"}),
        ("pubsub.E001", {"PUBSUB_BACKEND": "pubsub.items.Item"}),
        ("pubsub.E002", {"XMPP_JID": "example.org"}),
        ("pubsub.E002", {"XMPP_JID": "django@localhost/resource"}),
        ("pubsub.E001", {"PUBSUB_BACKEND": ".X"}),
        ("pubsub.E002", {"XMPP_JID": "a b@localhost"}),
        ("pubsub.E003", {"XMPP_PASSWORD": ""}),
        ("pubsub.E003", {"XMPP_PASSWORD": None}),
        ("pubsub.E004", {"XMPP_TLS": "no"}),
        ("pubsub.E005", {"XMPP_TLS": "off", "XMPP_HOST": "xmpp.example.org"}),
        ("pubsub.W001", {"XMPP_TLS": "off", "XMPP_HOST": "127.0.0.1"}),
        ("pubsub.E006", {"XMPP_CA_FILE": "/no/such/file.pem"}),
        ("pubsub.E007", {"XMPP_PORT": 70000}),
        ("pubsub.E007", {"XMPP_PORT": "many"}),
        ("pubsub.E006", {"XMPP_CA_FILE": "/"}),
        ("pubsub.E007", {"XMPP_PORT": float("inf")}),
        ("pubsub.E007", {"XMPP_TIMEOUT": 0}),
        ("pubsub.E007", {"PUBSUB_QUEUE_SIZE": 0}),
        ("pubsub.E007", {"XMPP_CONNECTIONS": 0}),
        ("pubsub.E007", {"XMPP_CONNECTIONS": 65}),
        ("pubsub.E007", {"XMPP_CONNECTIONS": "many"}),
        ("pubsub.E008", {"PUBSUB_GUEST_DOMAIN": "localhost"}),
        ("pubsub.E008", {"PUBSUB_USER_DOMAIN": "localhost"}),
        ("pubsub.E008", {"PUBSUB_GUEST_DOMAIN": "LOCALHOST"}),
        ("pubsub.E008", {"PUBSUB_GUEST_DOMAIN": ""}),
        ("pubsub.E009", {"PUBSUB_BOSH_URL": "http://["}),
        ("pubsub.E009", {"PUBSUB_BOSH_URL": "ws://example.org/ws"}),
        ("pubsub.E009", {"PUBSUB_WEBSOCKET_URL": "http://example.org/ws"}),
        ("pubsub.E010", {"PUBSUB_BOSH_URL": "", "PUBSUB_WEBSOCKET_URL": None}),
        ("pubsub.E011", {"XMPP_PUBSUB_HOST": ""}),
        ("pubsub.E012", {"PUBSUB_NODE_DEFAULTS": 5}),
        ("pubsub.E012", {"PUBSUB_NODE_DEFAULTS": {1: 2}}),
        ("pubsub.E013", {"PUBSUB_GUEST_DOMAIN": "users.localhost"}),
    ],
)
def test_a_wrong_setting_is_a_check_with_a_hint(settings, expected, changes):
    for name, value in changes.items():
        setattr(settings, name, value)
    messages = check_settings()
    assert [message.id for message in messages] == [expected]
    assert messages[0].hint
    assert any(name in messages[0].msg for name in changes)


def test_a_ca_file_without_tls_is_a_contradiction(settings, tmp_path):
    ca_file = tmp_path / "ca.pem"
    ca_file.touch()
    settings.XMPP_TLS = "off"
    settings.XMPP_CA_FILE = ca_file
    assert ids() == ["pubsub.W001", "pubsub.W002"]


def test_the_account_is_of_no_interest_to_other_backends(settings):
    settings.PUBSUB_BACKEND = "pubsub.backends.dummy.DummyBackend"
    settings.XMPP_PASSWORD = ""
    assert ids() == []
