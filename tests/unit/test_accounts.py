"""pubsub/accounts.py: what is heard of users, groups and permissions."""

import logging
import time
from concurrent.futures import Future
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.contrib.auth.signals import user_logged_out
from django.contrib.contenttypes.models import ContentType
from django.core import serializers
from django.db import models, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.test.utils import isolate_apps

from pubsub import accounts, errands, runners
from pubsub.backends import get_backend
from pubsub.backends.base import BaseBackend
from pubsub.exceptions import ConnectError
from pubsub.futures import failed, resolved
from pubsub.rechecking import recheck_user
from tests.testapp.models import Author
from tests.waiting import until

pytestmark = pytest.mark.django_db


class Server(BaseBackend):
    """Keeps whose sessions were ended."""

    manages_nodes = True

    def __init__(self):
        self.ended = []
        self.margins = []
        self.errors = []

    def end_sessions(self, jid, before, session=None) -> Future[None]:
        if self.errors:
            return failed(self.errors.pop())
        self.ended.append((jid, session))
        self.margins.append(before - time.time())
        return resolved(None)


@pytest.fixture(autouse=True)
def quick(request, settings, monkeypatch):
    """Cheap passwords; and most tests do not wait for the commit of what is around them."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    if not request.node.get_closest_marker("django_db").kwargs:
        monkeypatch.setattr("pubsub.errands.waits_for_commit", lambda using: False)


@pytest.fixture
def begun(monkeypatch):
    """The errands that were begun: the key of the user whom it is about, or else what is done."""
    begun = []

    def run(errand, *, key, is_urgent=False, **options):
        if is_urgent:
            errand()
        else:
            begun.append(key[1] if key[0] is recheck_user else errand)
        return resolved(None)

    monkeypatch.setattr(accounts, "run", run)
    return begun


@pytest.fixture
def asked(begun, monkeypatch):
    """Whose rules are asked again by errands about many."""
    asked = []
    monkeypatch.setattr(accounts, "recheck_users", asked.append)

    def take():
        for errand in begun:
            if callable(errand):
                errand()
        found, asked[:], begun[:] = [*asked], [], []
        return found

    return take


@pytest.fixture
def server(settings, begun):
    settings.PUBSUB_BACKEND = f"{__name__}.Server"
    return get_backend()


@pytest.fixture
def ada(server, begun):
    user = User.objects.create_user("ada", password="ada's password")
    begun.clear()
    server.ended.clear()
    return user


def test_a_new_user_is_asked_about_in_case_another_had_his_key_before(server, begun):
    user = User.objects.create_user("ada", password="ada's password")
    assert (begun, server.ended) == ([str(user.pk)], [])


def test_a_user_who_logs_in_keeps_what_he_has(ada, begun, server, client):
    assert client.login(username="ada", password="ada's password")
    ada.save(update_fields=["last_login"])
    assert (begun, server.ended) == ([], [])


def test_a_user_who_is_saved_is_asked_about(ada, begun, server):
    ada.is_staff = True
    ada.save()
    ada.save(update_fields=["is_superuser", "last_login"])
    assert (begun, server.ended) == ([str(ada.pk)] * 2, [])


def test_a_user_who_is_not_active_any_more_is_logged_out(ada, begun, server):
    ada.is_active = False
    ada.save()
    assert (begun, server.ended) == ([str(ada.pk)], [(f"{ada.pk}@users.localhost", None)])


def test_clocks_that_differ_leave_no_token_to_who_gets_no_other(ada, begun, server):
    ada.set_password("another")
    ada.save()
    ada.is_active = False
    ada.save()
    ada.delete()
    comes_back, *stays_out = server.margins
    assert comes_back <= 0 < min(stays_out)


def test_a_user_who_gets_another_password_is_logged_out(ada, server):
    ada.set_password("another")
    ada.save()
    assert server.ended == [(f"{ada.pk}@users.localhost", None)]


def test_a_password_that_is_only_written_in_a_better_way_logs_nobody_out(ada, server, settings):
    settings.PASSWORD_HASHERS = [
        "django.contrib.auth.hashers.PBKDF2SHA1PasswordHasher",
        *settings.PASSWORD_HASHERS,
    ]
    before = ada.password
    assert ada.check_password("ada's password")
    ada.refresh_from_db()
    assert ada.password != before
    assert server.ended == []


def test_a_user_who_is_deleted_is_logged_out_under_the_key_that_he_had(ada, begun, server):
    pk = ada.pk
    User.objects.all().delete()
    assert (begun, server.ended) == ([str(pk)], [(f"{pk}@users.localhost", None)])


def test_fixtures_take_nothing_away(ada, begun, server):
    (found,) = serializers.deserialize("json", serializers.serialize("json", [ada]))
    found.object.is_active = False
    found.save()
    assert (begun, server.ended) == ([], [])


def test_other_models_are_none_of_our_business(server, begun):
    Author.objects.create(name="Ada").delete()
    assert (begun, server.ended) == ([], [])


def test_groups_and_permissions_of_a_user_are_asked_about(ada, begun):
    group = Group.objects.create(name="readers")
    permission = Permission.objects.first()
    ada.groups.add(group)
    ada.groups.remove(group)
    ada.user_permissions.add(permission)
    ada.user_permissions.clear()
    assert begun == [str(ada.pk)] * 4


def test_users_of_a_group_are_asked_about(ada, asked):
    group = Group.objects.create(name="readers")
    group.user_set.add(ada)
    assert asked() == [[str(ada.pk)]]
    User.objects.create_user("bo")
    group.permissions.add(Permission.objects.first())
    assert asked() == [[str(ada.pk)]]
    group.user_set.clear()
    assert asked() == [None]


@pytest.mark.parametrize("model", [Group, Permission])
def test_after_a_group_or_permission_is_deleted_everybody_is_asked_about(ada, asked, model):
    if model is Group:
        Group.objects.create(name="readers")
    model.objects.first().delete()
    assert asked() == [None]


def test_a_user_model_without_groups_has_everybody_asked_about(ada, asked, monkeypatch):
    monkeypatch.setattr(accounts, "get_user_model", lambda: Author)
    Group.objects.create(name="readers").permissions.add(Permission.objects.first())
    assert asked() == [None]


@pytest.mark.django_db(transaction=True)
def test_all_waits_for_the_commit_and_goes_with_a_rollback(ada, begun, server):
    with transaction.atomic():
        ada.is_active = False
        ada.save()
        assert (begun, server.ended) == ([], [])
    assert (len(begun), len(server.ended)) == (1, 1)
    with transaction.atomic():
        ada.save()
        transaction.set_rollback(True)
    assert (len(begun), len(server.ended)) == (1, 1)


def test_who_logs_out_ends_what_he_got_in_that_session(ada, server, client):
    client.force_login(ada)
    client.logout()
    ((jid, session),) = server.ended
    assert jid == f"{ada.pk}@users.localhost"
    assert len(session) == 32


def test_somebody_who_was_nobody_logs_out(server):
    user_logged_out.send(sender=None, request=SimpleNamespace(), user=None)
    assert server.ended == []


def test_without_a_server_nothing_is_done_and_nothing_is_said(settings, begun, caplog):
    settings.PUBSUB_BACKEND = "pubsub.backends.dummy.DummyBackend"
    user = User.objects.create_user("ada")
    user.is_active = False
    user.save()
    user.delete()
    assert (begun, caplog.text) == ([], "")


def test_a_failure_breaks_no_save_and_says_what_to_run(ada, caplog, monkeypatch):
    monkeypatch.setattr(accounts, "run", lambda *a, **kw: 1 / 0)
    ada.is_active = False
    ada.save()
    assert f"Could not end the XMPP sessions of {ada.pk}@users.localhost" in caplog.text
    assert "To make up for it: pubsub.end_sessions(user)" in caplog.text
    assert f"To make up for it: manage.py pubsub_recheck --user {ada.pk}" in caplog.text


def test_sessions_that_cannot_be_ended_yet_are_ended_later(ada, server, caplog, monkeypatch):
    monkeypatch.setattr(accounts, "run", errands.run)
    monkeypatch.setattr(runners, "delay", lambda failures: 0)
    server.errors = [ConnectError("here:1", "nobody listens")]
    accounts._end(ada, None, None)
    until(lambda: server.ended == [(f"{ada.pk}@users.localhost", None)], "they have ended")
    assert "else run pubsub.end_sessions(user)" in caplog.text


def test_a_backend_that_cannot_be_imported_breaks_no_save(settings, caplog):
    user = User.objects.create_user("ada")
    settings.PUBSUB_BACKEND = "no.such.Backend"
    with caplog.at_level(logging.ERROR):
        user.save()
    assert "no.such.Backend" in caplog.text


def test_the_receivers_are_there_once(ada, begun):
    accounts.connect()
    ada.save()
    assert begun == [str(ada.pk)]


@pytest.fixture
def proxies():
    with isolate_apps("tests.testapp"):

        class Staff(User):
            class Meta:
                proxy = True
                app_label = "testapp"

        class Readers(Group):
            class Meta:
                proxy = True
                app_label = "testapp"

        yield Staff, Readers


def test_a_user_who_is_saved_or_deleted_under_a_proxy_is_heard_of(ada, begun, server, proxies):
    staff = proxies[0].objects.get(pk=ada.pk)
    staff.is_active = False
    staff.save()
    staff.delete()
    assert (len(begun), len(server.ended)) == (2, 2)


def test_a_group_that_is_deleted_under_a_proxy_is_heard_of(ada, asked, proxies):
    proxies[1].objects.create(name="readers").delete()
    assert asked() == [None]


def listeners(signal, sender):
    """The modules of those who hear of a sender, or of one that had its place in memory."""
    found = signal._live_receivers(sender)
    receivers = [*found[0], *found[1]] if isinstance(found, tuple) else found  # Django 4.2
    return {receiver.__module__ for receiver in receivers}


@isolate_apps("tests.testapp")
def test_a_child_of_the_user_model_is_heard_of_once():
    class Customer(User):
        class Meta:
            app_label = "testapp"

    assert accounts.__name__ in listeners(post_save, Customer)
    assert accounts.__name__ not in listeners(post_delete, Customer)  # it is told of as a User, too


def test_models_that_are_none_of_our_business_are_saved_and_deleted_as_fast_as_ever():
    assert not post_save.has_listeners(Permission)
    assert not post_delete.has_listeners(ContentType)


@isolate_apps("tests.testapp")
@pytest.mark.parametrize("key", ["ada", "x" * 600, ""])
def test_a_user_model_that_is_quite_another_breaks_nothing(server, key):
    class Bare(models.Model):
        name = models.TextField(primary_key=True)

        class Meta:
            app_label = "testapp"

        def __str__(self):
            return self.name

    user = Bare(name=key) if key else User()
    post_save.send(
        sender=User, instance=user, created=False, raw=False, using="default", update_fields=None
    )
    post_delete.send(sender=User, instance=user, using="default", origin=user)
    m2m_changed.send(
        sender=User.groups.through,
        instance=user,
        action="post_add",
        using="default",
        pk_set={1},
        reverse=False,
        model=Group,
    )


def test_somebody_who_is_in_no_database_logs_out(server):
    user = SimpleNamespace(pk=5, is_authenticated=True, is_active=True)
    user_logged_out.send(sender=SimpleNamespace, request=SimpleNamespace(session=None), user=user)
    assert server.ended == []
