"""pubsub/checks/users.py: one test per id."""

import pytest
from django.urls import include, path

from pubsub.checks import check_users

SECRET = "a secret of the site, which has 32 bytes or more"

urlpatterns = [path("pubsub/", include("pubsub.urls"))]

complete = pytest.mark.urls(__name__)


def ids():
    return [message.id for message in check_users()]


def test_a_site_without_users_is_complete():
    assert ids() == []


@complete
def test_a_key_and_the_addresses_are_all_that_users_need(settings):
    settings.PUBSUB_JWT_KEY = SECRET
    settings.PUBSUB_JWT_KEY_FALLBACKS = [SECRET + "!"]
    assert ids() == []


@complete
@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        ("pubsub.E032", {"PUBSUB_JWT_KEY": "short"}),
        ("pubsub.E032", {"PUBSUB_JWT_KEY": "-----BEGIN PRIVATE KEY-----"}),
        ("pubsub.E032", {"PUBSUB_JWT_KEY_FALLBACKS": ["short"]}),
        ("pubsub.E033", {"PUBSUB_JWT_KEY_FALLBACKS": SECRET}),
        ("pubsub.E033", {"PUBSUB_JWT_KEY_FALLBACKS": 5}),
        ("pubsub.E034", {"PUBSUB_TOKEN_LIFETIME": 0}),
        ("pubsub.E034", {"PUBSUB_TOKEN_LIFETIME": 86400}),
        ("pubsub.E034", {"PUBSUB_TOKEN_LIFETIME": "a minute"}),
        ("pubsub.E034", {"PUBSUB_TOKEN_LIFETIME": float("nan")}),
        ("pubsub.E035", {"PUBSUB_PREBIND_URL": "/http-bind"}),
        ("pubsub.E035", {"PUBSUB_PREBIND_URL": "ws://localhost/ws"}),
    ],
)
def test_a_wrong_setting_is_a_check_with_a_hint(settings, expected, changes):
    settings.PUBSUB_JWT_KEY = SECRET
    for name, value in changes.items():
        setattr(settings, name, value)
    (message,) = check_users()
    assert message.id == expected
    assert message.hint
    assert any(name in message.msg for name in changes)
    assert SECRET not in message.msg
    assert "short" not in message.msg


def test_old_keys_without_a_present_one_are_an_error(settings):
    settings.PUBSUB_JWT_KEY_FALLBACKS = [SECRET]
    assert ids() == ["pubsub.E033"]


def test_a_key_without_addresses_may_be_for_prebinding(settings):
    settings.PUBSUB_JWT_KEY = SECRET
    assert ids() == []


@complete
def test_addresses_without_a_key_are_warned_of():
    assert ids() == ["pubsub.W010"]
