"""pubsub/identities.py: under which JIDs the server knows the site's users."""

import uuid
from unittest import mock

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.utils.functional import SimpleLazyObject
from hypothesis import given
from hypothesis import strategies as st

from pubsub.identities import bare_jid, jid_of, key_in, local_part
from tests.testapp.models import Author, Badge, Penname, Place, Restaurant, Ticket


def users_are(model):
    return mock.patch("pubsub.identities.get_user_model", return_value=model)


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


@pytest.mark.parametrize("user", [5, None, "ada", Group(pk=5), Author(pk=5)])
def test_what_is_no_user_has_no_jid(user):
    with pytest.raises(TypeError, match="instance of the user model"):
        jid_of(user)


def test_a_user_that_was_not_saved_has_no_jid():
    with pytest.raises(ValueError, match="save it first"):
        jid_of(User())


def test_any_model_can_be_the_user_model():
    with users_are(Author):
        assert jid_of(Author(pk=7)) == "7@users.localhost"
        with pytest.raises(TypeError, match=r"user model testapp\.Author"):
            jid_of(User(pk=7))


def test_a_user_in_other_clothes_is_the_same():
    with users_are(Author):
        assert jid_of(Penname(pk=7)) == "7@users.localhost"  # a proxy
    with users_are(Place):
        assert jid_of(Restaurant(pk=7)) == "7@users.localhost"  # a child
    assert jid_of(SimpleLazyObject(lambda: User(pk=7))) == "7@users.localhost"  # request.user


@pytest.mark.parametrize("name", ["ada", "007", "5.0", "_" + "0" * 4, str(uuid.UUID(int=5))])
def test_an_account_that_was_registered_by_hand_is_no_user(name):
    assert key_in(f"{name}@users.localhost") is None


@pytest.mark.parametrize("name", ["5", "ada", uuid.UUID(int=5).hex])
def test_what_is_no_key_of_the_user_model_is_no_user(name):
    with users_are(Ticket):
        assert key_in(f"{name}@users.localhost") is None
        assert key_in(f"{uuid.UUID(int=5)}@users.localhost") == str(uuid.UUID(int=5))


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
    with users_are(Badge):
        assert key_in(f"{local}@users.localhost/page") == key
    assert local == local.lower()
    assert local.isascii()


@given(st.text(max_size=50))
def test_no_two_local_parts_mean_one_key(local):
    with users_are(Badge):
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
