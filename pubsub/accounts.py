"""Hears of changes of users, groups and permissions, and takes away what is not allowed any more.

Acts when the transaction commits, and in threads of its own: no request waits for it.  A failure
breaks nothing, and is logged with the command that makes up for it.

Bulk operations send no signals (``QuerySet.update()``, ``bulk_create()``, raw SQL), and neither
does what rules look at besides; call :func:`pubsub.recheck`, :func:`pubsub.revoke` or
:func:`pubsub.end_sessions` after those, or run ``manage.py pubsub_recheck``.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Collection, Hashable, Iterable
from functools import partial, wraps
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.contrib.auth.signals import user_logged_out
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model
from django.db.models.signals import class_prepared, m2m_changed, post_delete, post_save

from pubsub.backends import get_backend
from pubsub.credentials import session_id
from pubsub.errands import after_commit, answer, run
from pubsub.identities import jid_of, key_of_user
from pubsub.instances import key_of
from pubsub.rechecking import recheck_user, recheck_users
from pubsub.sessions import end_sessions_of

logger = logging.getLogger("pubsub")

#: Fields of a user that no rule looks at.
HARMLESS = frozenset({"last_login"})

#: Actions of m2m_changed after which relations are others.
CHANGED = ("post_add", "post_remove", "post_clear")

#: What makes up for rules that were not asked.
RECHECK = "manage.py pubsub_recheck"


def connect() -> None:
    """Begin to hear; once, when Django is ready."""
    user_logged_out.connect(_logged_out, dispatch_uid="pubsub")
    for model in apps.get_models():
        _connect_model(model)
    class_prepared.connect(_connect_model, dispatch_uid="pubsub")
    for name in ("groups", "user_permissions"):
        through = _through(get_user_model(), name)
        if through is not None:
            m2m_changed.connect(_users_related, sender=through, dispatch_uid="pubsub")
    m2m_changed.connect(_group_related, sender=Group.permissions.through, dispatch_uid="pubsub")


# Private


def _connect_model(sender: type[Model], **kwargs: Any) -> None:
    """Hear of users, groups and permissions, under whatever proxy or child they are saved.

    Whoever heard of the deletion of every model would make all of them slower to delete.
    """
    user = get_user_model()
    if issubclass(sender, user):
        post_save.connect(_user_saved, sender=sender, dispatch_uid="pubsub")
    for parent, receiver in (
        (user, _user_deleted),
        (Group, _right_gone),
        (Permission, _right_gone),
    ):
        # A child that is deleted is told of as its parent, too, if that one goes with it.
        if issubclass(sender, parent) and sender._meta.concrete_model is parent:
            post_delete.connect(receiver, sender=sender, dispatch_uid="pubsub")


def _harmless(receiver: Callable[..., None]) -> Callable[..., None]:
    """A receiver that whoever saves does not suffer from; where there is no server it is silent."""

    @wraps(receiver)
    def receive(**kwargs: Any) -> None:
        try:
            if get_backend().manages_nodes:
                receiver(**kwargs)
        except Exception:
            logger.exception("Could not see who may read what now. To make up for it: %s", RECHECK)

    return receive


@_harmless
def _logged_out(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    if not isinstance(user, get_user_model()) or user.pk is None:
        return
    session = getattr(request, "session", None)
    _end(user, session_id(session), user._state.db)


@_harmless
def _user_saved(
    sender: type[Model],
    instance: Any,
    created: bool,
    raw: bool,
    using: str,
    update_fields: Collection[str] | None = None,
    **kwargs: Any,
) -> None:
    if raw or (update_fields is not None and HARMLESS.issuperset(update_fields)):
        return
    # Django ends his other sessions, too, when a password is set; this one comes back by itself.
    has_new_password = getattr(instance, "_password", None) is not None
    is_active = getattr(instance, "is_active", True)
    if not created and (has_new_password or not is_active):
        _end(instance, None, using, for_good=not is_active)
    # Also of a new one: perhaps another had his key before, and could not be put out yet.
    _recheck(instance, using)


@_harmless
def _user_deleted(sender: type[Model], instance: Any, using: str, **kwargs: Any) -> None:
    _end(instance, None, using, for_good=True)
    _recheck(instance, using)


@_harmless
def _users_related(
    sender: type[Model],
    instance: Any,
    action: str,
    using: str,
    pk_set: Collection[Any] | None,
    reverse: bool,
    **kwargs: Any,
) -> None:
    """Groups or permissions of a user were changed, from either side."""
    if action not in CHANGED:
        return
    if not reverse:
        _recheck(instance, using)
    elif pk_set is None:  # a group was cleared, and nobody knows any more of whom
        _recheck_many(None, using)
    else:
        _recheck_many(partial(_keys, get_user_model(), pk_set), using, frozenset(pk_set))


@_harmless
def _group_related(
    sender: type[Model], instance: Any, action: str, using: str, reverse: bool, **kwargs: Any
) -> None:
    """Permissions of a group were changed, or groups of a permission."""
    if action not in CHANGED:
        return
    if reverse:
        _recheck_many(None, using)
    else:
        _recheck_many(partial(_members, instance.pk, using), using, ("group", instance.pk))


@_harmless
def _right_gone(sender: type[Model], instance: Any, using: str, **kwargs: Any) -> None:
    """A group or a permission was deleted, and nobody knows any more who had it."""
    _recheck_many(None, using)


def _keys(model: type[Model], pks: Iterable[Any]) -> list[str]:
    return [key_of(model, pk) for pk in pks]


def _members(group: Any, using: str) -> list[str] | None:
    """The keys of those who are in a group; None where a user's groups are not Django's."""
    model = get_user_model()
    if _through(model, "groups") is None:
        return None
    found = model._base_manager.using(using).filter(groups=group)
    return _keys(model, found.values_list("pk", flat=True).iterator())


def _through(model: type[Model], name: str) -> type[Model] | None:
    """The model behind a many-to-many field; None where the user model has no such field."""
    try:
        field: Any = model._meta.get_field(name)
    except FieldDoesNotExist:
        return None
    return getattr(field.remote_field, "through", None)


def _end(user: Any, sid: str | None, using: str | None, *, for_good: bool = False) -> None:
    """End all sessions of a user; see :func:`~pubsub.sessions.end_sessions_of`."""
    jid = jid_of(user)
    _begin(
        lambda: answer(end_sessions_of(jid, sid, None, for_good=for_good)),
        what=f"end the XMPP sessions of {jid}",
        remedy="pubsub.end_sessions(user)",
        key=(end_sessions_of, jid, sid, for_good),
        using=using,
        is_urgent=True,
    )


def _recheck(user: Any, using: str) -> None:
    key = key_of_user(user)
    _begin(
        partial(recheck_user, key),
        what=f"ask the rules of private nodes again about user {key}",
        remedy=f"{RECHECK} --user {shlex.quote(key)}",
        key=(recheck_user, key),
        using=using,
    )


def _recheck_many(
    keys: Callable[[], list[str] | None] | None, using: str, about: Hashable = None
) -> None:
    """Ask the rules again about some users, or about everybody who was let in anywhere.

    :param keys: called behind the request.
    :param about: tells those users from others.
    """
    _begin(
        lambda: recheck_users(None if keys is None else keys()),
        what="ask the rules of private nodes again",
        remedy=RECHECK,
        key=(recheck_users, about),
        using=using,
    )


def _begin(act: Callable[[], Any], *, using: str | None, **options: Any) -> None:
    """Do what a signal asks for, when the transaction commits; the other things go on if it fails.

    :param options: of :func:`~pubsub.errands.run`, which tells of failures.
    """
    try:
        after_commit(partial(run, act, **options), using)
    except Exception:
        logger.exception("Could not %(what)s. To make up for it: %(remedy)s", options)
