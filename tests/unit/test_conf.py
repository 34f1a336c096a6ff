"""pubsub/conf.py: settings are read at each access, and their defaults follow the JID."""

import pytest

from pubsub.conf import conf


def test_a_setting_is_read_at_each_access(settings):
    settings.XMPP_PORT = 15222
    assert conf.port == 15222
    settings.XMPP_PORT = "15223"
    assert conf.port == 15223


def test_the_defaults_are_those_of_the_shipped_configuration():
    assert (conf.jid, conf.host, conf.port, conf.tls) == (
        "django@localhost",
        "localhost",
        5222,
        "starttls",
    )
    assert (conf.guest_domain, conf.user_domain) == ("guests.localhost", "users.localhost")
    assert conf.pubsub_host == "pubsub.localhost"
    assert (conf.bosh_url, conf.websocket_url) == ("/http-bind", "/ws")


def test_domains_follow_the_jid(settings):
    settings.XMPP_JID = "site@example.org"
    assert (conf.host, conf.pubsub_host) == ("example.org", "pubsub.example.org")
    assert (conf.guest_domain, conf.user_domain) == ("guests.example.org", "users.example.org")


def test_port_5223_means_tls_from_the_first_byte(settings):
    settings.XMPP_PORT = 5223
    assert conf.tls == "direct"


def test_node_defaults_are_laid_over_ours(settings):
    settings.PUBSUB_NODE_DEFAULTS = {"max_items": 5}
    assert conf.node_defaults["max_items"] == 5
    assert conf.node_defaults["notify_retract"] is False


def test_none_means_the_default(settings):
    """What os.environ.get() gives for a variable that is not set."""
    settings.XMPP_HOST = settings.XMPP_PASSWORD = settings.PUBSUB_NODE_DEFAULTS = None
    assert (conf.host, conf.password) == ("localhost", "")
    assert conf.node_defaults["max_items"] == 1000


def test_an_address_is_switched_off_by_none_or_nothing(settings):
    settings.PUBSUB_WEBSOCKET_URL = None
    settings.PUBSUB_BOSH_URL = ""
    assert (conf.websocket_url, conf.bosh_url) == ("", "")


@pytest.mark.parametrize("path", [None, ""])
def test_no_ca_file_means_the_systems(settings, path):
    settings.XMPP_CA_FILE = path
    assert conf.ca_file is None
