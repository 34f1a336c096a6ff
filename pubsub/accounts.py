"""Hears of changes of users, groups and permissions, and takes away what is not allowed any more.

Acts when the transaction commits, and in threads of its own: no request waits for it.  A failure
breaks nothing, and is logged with the command that makes up for it.

Bulk operations send no signals (``QuerySet.update()``, ``bulk_create()``, raw SQL), and neither
does what rules look at besides; call :func:`pubsub.recheck`, :func:`pubsub.revoke` or
:func:`pubsub.end_sessions` after those, or run ``manage.py pubsub_recheck``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission
from django.contrib.auth.signals import user_logged_out
from django.core.exceptions import FieldDoesNotExist
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_delete, post_save

from pubsub.backends import get_backend
from pubsub.errands import after_commit, insist
from pubsub.exceptions import PubSubError
from pubsub.identities import jid_of, key_of_user
from pubsub.instances import key_of
from pubsub.rechecking import recheck_user, recheck_users
from pubsub.sessions import end_sessions, end_sessions_of

logger = logging.getLogger("pubsub")

#: Fields of a user that no rule looks at.
HARMLESS = frozenset({"last_login"})

#: Actions of m2m_changed after which relations are others.
CHANGED = ("post_add", "post_remove", "post_clear")

#: What makes up for sessions that did not end.
END = "pubsub.end_sessions(user)"


def connect() -> None:
    """Begin to hear; once, when Django is ready."""
    model = get_user_model()
    user_logged_out.connect(_logged_out, dispatch_uid="pubsub")
    post_save.connect(_user_saved, sender=model, dispatch_uid="pubsub")
    post_delete.connect(_user_deleted, sender=model, dispatch_uid="pubsub")
    for name in ("groups", "user_permissions"):
        through = _through(model, name)
        if through is not None:
            m2m_changed.connect(_users_related, sender=through, dispatch_uid="pubsub")
    m2m_changed.connect(_group_related, sender=Group.permissions.through, dispatch_uid="pubsub")
    for sender in (Group, Permission):
        post_delete.connect(_right_gone, sender=sender, dispatch_uid="pubsub")


# Private


def _logged_out(sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
    if getattr(user, "pk", None) is None:
        return
    session = getattr(request, "session", None)
    using = user._state.db
    _begin(
        lambda: end_sessions(user, session=session, using=using),
        f"end the XMPP sessions of user {user.pk}, who has logged out",
        END,
    )


def _user_saved(
    sender: type[Model],
    instance: Any,
    created: bool,
    raw: bool,
    using: str,
    update_fields: Collection[str] | None = None,
    **kwargs: Any,
) -> None:
    if created or raw or (update_fields is not None and HARMLESS.issuperset(update_fields)):
        return
    # Django ends his other sessions, too, when a password is set; this one comes back by itself.
    has_new_password = getattr(instance, "_password", None) is not None
    if has_new_password or not instance.is_active:
        _end_all(instance, using)
    _recheck(instance, using)


def _user_deleted(sender: type[Model], instance: Any, using: str, **kwargs: Any) -> None:
    _end_all(instance, using)
    _recheck(instance, using)


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
        _recheck_many(partial(_keys, get_user_model(), pk_set), using)


def _group_related(
    sender: type[Model], instance: Any, action: str, using: str, reverse: bool, **kwargs: Any
) -> None:
    """Permissions of a group were changed, or groups of a permission."""
    if action in CHANGED:
        _recheck_many(None if reverse else partial(_members, instance.pk, using), using)


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


def _end_all(user: Any, using: str) -> None:
    jid = jid_of(user)
    _begin(lambda: end_sessions_of(jid, None, using), f"end the XMPP sessions of {jid}", END)


def _recheck(user: Any, using: str) -> None:
    key = key_of_user(user)
    what = f"ask the rules of private nodes again about user {key}"
    remedy = f"manage.py pubsub_recheck --user {key}"
    _begin(
        lambda: after_commit(lambda: _insist(what, remedy, recheck_user, key), using), what, remedy
    )


def _recheck_many(keys: Callable[[], list[str] | None] | None, using: str) -> None:
    """Ask the rules again about some users, or about everybody who was let in anywhere.

    :param keys: called behind the request.
    """
    what, remedy = "ask the rules of private nodes again", "manage.py pubsub_recheck"

    def ask() -> None:
        recheck_users(None if keys is None else keys())

    _begin(lambda: after_commit(partial(_insist, what, remedy, ask), using), what, remedy)


def _insist(what: str, remedy: str, errand: Callable[..., Any], *args: Any) -> Future[Any]:
    """Do something as soon as the server is there."""

    def report(error: PubSubError) -> None:
        logger.error(
            "Could not %s yet: %s. It is tried again while this process lives; else run %s",
            *(what, error, remedy),
        )

    return insist(errand, *args, report=report)


def _begin(act: Callable[[], Future[Any]], what: str, remedy: str) -> None:
    """Begin what a signal asks for, as far as there is a server to do it at."""
    try:
        if get_backend().manages_nodes:
            act().add_done_callback(partial(_ended, what, remedy))
    except Exception:  # whoever saves must not suffer
        logger.exception("Could not %s. To make up for it: %s", what, remedy)


def _ended(what: str, remedy: str, future: Future[Any]) -> None:
    error = None if future.cancelled() else future.exception()
    if error is not None:
        logger.error("Could not %s: %s. To make up for it: %s", what, error, remedy, exc_info=error)
