"""Lets users in to private nodes, and puts them out again (XEP-0060 §8.8, §8.9).

A user is a member of the nodes that he was let in to, on the server, and has rows of Admission.  He
is let in so that whoever takes away what his rule looks at, and then revokes, puts him out for
good: first a row is written, then the rule is asked, and then the server is told.  Who revokes
waits for rows that are on this way; whoever comes later hears the rule say no.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from django.apps import apps
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import router
from django.db.models import QuerySet
from django.utils import timezone

from pubsub import nodes
from pubsub.backends import get_backend
from pubsub.conf import conf
from pubsub.errands import after_commit, answer, run
from pubsub.exceptions import BackendError, PubSubError, RequestRefused
from pubsub.identities import bare_jid, jid_of, key_of_user, local_part
from pubsub.items import valid_node
from pubsub.payloads import shortened
from pubsub.registry import pubsub as registry
from pubsub.rules import allows, rule_of

T = TypeVar("T")

#: How often, in seconds, somebody looks whether an admission has come to its end.
PAUSE = 0.02

#: How often what is there is taken away: a subscription that the server was just writing down may
#: come in between.
ROUNDS = 10

#: What fields and databases raise over the key of nobody.
NO_KEY = (ValidationError, ValueError, OverflowError)


def may_read(user: Any, node: str) -> bool:
    """Whether a user may read a node, as the site sees it; the server is not asked.

    :param user: a user, or AnonymousUser, who may read what is open to all.
    :returns: what the node's rule says (:func:`pubsub.authorize`); without a rule, whether the
        node is known to be open.  It is not where a publication that may be private names its nodes
        by row, and this may be one of them.
    :raises TypeError, InvalidNode: for what is no node.
    :raises SynchronousOnlyOperation: when the rule asks the database where an event loop runs.
    """
    if rule_of(valid_node(node)) is not None:
        return allows(user, node)
    if nodes.wanted(node)["access_model"] != "open":
        return False
    return node in registry.publications_by_node or not any(
        publication.names_nodes_by_row and publication.may_be_private
        for publication in registry.publications
    )


def admit(user: Any, node: str, *, within: float | None = None) -> bool:
    """Let a user in to a private node, if its rule allows it; waits for the server.

    :param user: who is logged in.
    :param within: seconds that the server may take; by default XMPP_TIMEOUT decides.
    :returns: whether he may subscribe now.
    :raises InvalidNode: for a name that no node can have.
    :raises RequestRefused: with ``item-not-found`` where there is no such node: it is not created.
    :raises PubSubError: when the server cannot be told.
    """
    node = valid_node(node)
    if not allows(user, node):
        return False
    jid, key = jid_of(user), key_of_user(user)
    row = _rows().create(name=local_part(key), node=node)
    same = rows_of(row.name, node)
    telling: Future[None] | None = None
    try:
        # Who takes the permission away after this finds the row, and waits for us.
        if not allows(find_user(key), node):
            same.filter(pk=row.pk).delete()
            return False
        telling = nodes.set_affiliations(node, {jid: "member"})
        answer(telling, within)
    except (RequestRefused, BackendError):
        same.filter(pk=row.pk).delete()
        raise
    except PubSubError:  # perhaps the server has heard of it, or will
        if telling is None or telling.cancelled():
            same.filter(pk=row.pk).delete()
        else:
            telling.add_done_callback(lambda _: _soon(_settle, key, node, row.pk))
        raise
    return _settle(key, node, row.pk)


def revoke(user: Any, node: str, *, using: str | None = None) -> Future[None]:
    """Put a user out of a private node: he is no member any more, and not subscribed.

    Nothing that is published when it is done reaches him.  Take away first what the rule of the
    node looks at, or he is let in again when he asks.  Inside a transaction this is done when it
    commits; a rollback cancels the Future.  While the server is away it waits, as long as the
    process lives; the log says so, once, with the command that makes up for it.

    :param user: an instance of the user model, also one that was deleted and still has its key.
    :param using: alias of the database whose transaction to wait for; by default the default one.
    :returns: a Future, resolved when it is done; it fails with a PubSubError when the server
        refuses, or the process ends before: then he may still be in.
    :raises TypeError: for AnonymousUser, and for what is no user.
    :raises InvalidNode: for a name that no node can have.
    :raises BackendError: when the configured backend has no server.
    """
    key, name = key_of_user(user), valid_node(node)
    local_part(key)
    get_backend().require_server("set_subscriptions")
    return after_commit(partial(_soon, put_out, key, name), using)


def put_out(key: str, node: str) -> None:
    """Do what :func:`revoke` promises; waits for the server.

    :param key: the user's primary key as text.
    """
    name = local_part(key)
    jid = f"{name}@{conf.user_domain}"
    rows = _rows().filter(pk__in=list(rows_of(name, node).values_list("pk", flat=True)))
    under_way = _is_under_way(rows)
    _put_out(jid, node)
    if under_way:
        while _is_under_way(rows):
            time.sleep(PAUSE)
        _put_out(jid, node)
    rows.delete()


def remember(key: str, node: str) -> None:
    """Note that a user is on a private node, who was not let in by us."""
    _rows().create(name=local_part(key), node=node, is_settled=True)


def rows_of(name: str | None = None, node: str | None = None) -> QuerySet[Any]:
    """The admissions of a user, by the local part of his JID, or to a node; or all."""
    rows = _rows()
    rows = rows if name is None else rows.filter(name=name)
    return rows if node is None else rows.filter(digest=rows.model.digest_of(node))


def find_user(key: str) -> Any:
    """The user of a primary key, read now; None where there is none.

    :param key: as text.
    """
    model = get_user_model()
    try:
        field: Any = model._meta.pk
        return _as_written(model).filter(pk=field.to_python(key)).first()
    except NO_KEY:
        return None


def end_subscriptions(node: str, jids: Iterable[str]) -> None:
    """End some subscriptions, by the JIDs that they are of; perhaps others have ended them."""
    try:
        if states := dict.fromkeys(jids, "none"):
            answer(nodes.set_subscriptions(node, states))
    except RequestRefused as error:
        if error.pubsub_condition != "not-subscribed":
            raise


# Private


def _rows() -> QuerySet[Any]:
    # Models cannot be imported before Django is ready.
    return _as_written(apps.get_model("pubsub", "Admission"))


def _as_written(model: Any) -> QuerySet[Any]:
    """The rows of a model where they are written: a replica may not know yet what was taken."""
    rows: QuerySet[Any] = model._default_manager.using(router.db_for_write(model))
    return rows


def _is_under_way(rows: QuerySet[Any]) -> bool:
    """Whether somebody is just letting in, and still alive as far as one can know."""
    longest = timedelta(seconds=5 * (conf.timeout + 1))
    return rows.filter(is_settled=False, at__gt=timezone.now() - longest).exists()


def _soon(act: Callable[..., T], key: str, node: str, *args: Any) -> Future[T]:
    """Put a user out of a node behind the request, or note that he is in."""
    what = "put user {} out of {}" if act is put_out else "note that user {} was let in to {}"
    return run(
        partial(act, key, node, *args),
        what=what.format(shortened(key), shortened(node)),
        remedy=f"manage.py pubsub_recheck {shlex.quote(node)}",
        key=(act, key, node, *args),
        is_urgent=True,
    )


def _settle(key: str, node: str, pk: int) -> bool:
    """Nobody need wait any more for who was being let in.

    :param pk: of his row; with it those before it are not needed to remember him.
    :returns: whether he is in; not if somebody has put him out, and did not wait any longer.
    """
    same = rows_of(local_part(key), node)
    is_in = bool(same.filter(pk=pk).update(is_settled=True))
    if is_in:
        same.filter(pk__lt=pk, is_settled=True).delete()
    else:
        _soon(put_out, key, node)
    return is_in


def _put_out(jid: str, node: str) -> None:
    """Take away what a JID has on a node, until there is nothing left."""
    bare = bare_jid(jid)
    try:
        for _ in range(ROUNDS):
            answer(nodes.set_affiliations(node, {jid: "none"}))
            subscriptions, affiliations = nodes.subscriptions(node), nodes.affiliations(node)
            left = [s.jid for s in answer(subscriptions) if bare_jid(s.jid) == bare]
            members: dict[str, str] = answer(affiliations)
            if not left and bare not in map(bare_jid, members):
                return
            end_subscriptions(node, left)
    except RequestRefused as error:
        if error.condition != "item-not-found":  # a node that is not there
            raise
        return
    raise PubSubError(f"{jid} comes back to {node} again and again, and was not put out")
