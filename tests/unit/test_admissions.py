"""pubsub/admissions.py and its like, without a server: what is refused before anything is sent."""

import pytest
from django.contrib.auth.models import AnonymousUser, User

from pubsub import end_sessions, nodes, recheck, revoke
from pubsub.admissions import find_user
from pubsub.exceptions import BackendError, InvalidNode

ADA = User(pk=5, username="ada")

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


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["x", "", "9" * 30, "-1", "5.0"])
def test_a_key_that_is_no_users_finds_nobody(key):
    assert find_user(key) is None


@pytest.mark.django_db
def test_a_user_is_found_by_his_key():
    user = User.objects.create_user("ada")
    assert find_user(str(user.pk)) == user
