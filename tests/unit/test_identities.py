"""pubsub/identities.py: under which JIDs the server knows the site's users."""

import uuid

import pytest
from django.contrib.auth.models import AnonymousUser, User
from hypothesis import given
from hypothesis import strategies as st

from pubsub.identities import bare_jid, jid_of, key_in, local_part
from tests.testapp.models import Author


def test_a_users_jid_is_made_from_his_primary_key():
    assert jid_of(User(pk=5, username="django")) == "5@users.localhost"


def test_users_live_where_the_settings_say(settings):
    settings.PUBSUB_USER_DOMAIN = "people.example.org"
    assert jid_of(User(pk=5)) == "5@people.example.org"
    assert key_in("5@people.example.org/page") == "5"


def test_a_key_that_is_still_text_makes_the_same_jid():
    assert jid_of(User(pk="5")) == jid_of(User(pk=5))


def test_the_anonymous_have_no_jid():
    with pytest.raises(TypeError, match="anonymous"):
        jid_of(AnonymousUser())


@pytest.mark.parametrize("user", [5, None, "ada"])
def test_what_is_no_user_has_no_jid(user):
    with pytest.raises(TypeError, match="instance of the user model"):
        jid_of(user)


def test_a_user_that_was_not_saved_has_no_jid():
    with pytest.raises(ValueError, match="save it first"):
        jid_of(User())


def test_any_model_can_be_the_user_model():
    assert jid_of(Author(pk=7)) == "7@users.localhost"


@pytest.mark.parametrize("key", ["5", "0", str(uuid.UUID(int=5)), "a-b"])
def test_plain_keys_are_written_as_they_are(key):
    assert local_part(key) == key


@pytest.mark.parametrize("key", ["-5", "Ada", "ada@example.org", "_5", "a b", "ß", "", "a" * 201])
def test_other_keys_are_encoded(key):
    assert local_part(key).startswith("_")


@given(st.text(max_size=200).filter(bool))
def test_every_key_comes_back_from_its_jid(key):
    try:
        local = local_part(key)
    except ValueError:
        return
    assert key_in(f"{local}@users.localhost/page") == key
    assert local == local.lower()
    assert local.isascii()


@given(st.text(max_size=50))
def test_no_two_local_parts_mean_one_key(local):
    key = key_in(f"{local}@users.localhost")
    assert key is None or local_part(key) == local.lower()


def test_a_key_that_does_not_fit_into_a_jid_is_refused():
    with pytest.raises(ValueError, match="too long"):
        local_part("Ä" * 1000)


@pytest.mark.parametrize(
    "jid", ["5@guests.localhost", "users.localhost", "alice", "", "A b@users.localhost", "_!@u"]
)
def test_the_jid_of_somebody_else_has_no_key(jid):
    assert key_in(jid) is None


def test_a_bare_jid_is_compared_as_servers_do():
    assert bare_jid("Ada@Example.org/Page") == "ada@example.org"
