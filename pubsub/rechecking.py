"""Asks the rules of private nodes again, about those who were let in before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from typing import TypeVar

from pubsub import nodes
from pubsub.admissions import end_subscriptions, find_user, put_out, rows_of
from pubsub.backends import get_backend
from pubsub.conf import conf
from pubsub.errands import after_commit, answer, run
from pubsub.exceptions import RequestRefused
from pubsub.identities import bare_jid, key_in, local_part
from pubsub.items import valid_node
from pubsub.rules import allows, rule_of

T = TypeVar("T")

#: How many names go into one query.
CHUNK = 500

#: Who keeps his subscription to a private node whatever a rule says: he was let in by hand.
MEMBERS = ("owner", "publisher", "publish-only", "member")


def recheck(node: str, *, using: str | None = None) -> Future[list[str]]:
    """Ask the rule of a node again about everybody who was let in, and revoke where it says no.

    Of a node with a rule, users of the site and guests who are subscribed without having been let
    in, because the node was open before, are put out, too; who was let in by hand
    (:func:`pubsub.nodes.set_affiliations`) and is no user of the site stays.  Without a rule those
    are put out who were let in by one.  Inside a transaction this is done when it commits.

    :param using: as for :func:`pubsub.revoke`.
    :returns: a Future of the bare JIDs that were revoked, sorted; it fails with a PubSubError.
    :raises InvalidNode: for a name that no node can have.
    :raises BackendError: when the configured backend has no server.
    """
    name = valid_node(node)
    get_backend().require_server("set_subscriptions")
    return after_commit(lambda: run(recheck_node, name), using)


def recheck_node(node: str) -> list[str]:
    """Do what :func:`recheck` promises; waits for the server."""
    # First of all: who is let in later than this is asked about later, too.
    names = set(rows_of(node=node).values_list("name", flat=True))
    jids = {f"{name}@{conf.user_domain}".lower() for name in names}
    has_rule = rule_of(node) is not None
    if has_rule:
        jids |= _on_server(node)
    revoked = []
    for jid in sorted(jids):
        key = key_in(jid)
        if key is None:
            _end_subscriptions(node, jid)
        elif not allows(find_user(key), node):
            put_out(key, node)
        else:
            continue
        revoked.append(jid)
    return revoked


def recheck_user(key: str) -> list[str]:
    """Ask all rules again about one user, and revoke where they say no; waits for the server.

    :param key: his primary key as text, even if he is gone.
    :returns: the nodes that he was put out of.
    """
    found = set(rows_of(local_part(key)).values_list("node", flat=True))
    if not found:
        return []
    user = find_user(key)
    revoked = [node for node in sorted(found) if not allows(user, node)]
    for node in revoked:
        put_out(key, node)
    return revoked


def recheck_users(keys: Iterable[str] | None) -> None:
    """Ask all rules again about many users; waits for the server.

    :param keys: primary keys as text; None: everybody who was let in anywhere.
    """
    for name in list(_admitted(keys)):
        key = key_in(f"{name}@{conf.user_domain}")
        if key is not None:
            recheck_user(key)


# Private


def _admitted(keys: Iterable[str] | None) -> Iterator[str]:
    """The local parts of those among some users who were let in anywhere."""
    if keys is None:
        yield from set(rows_of().values_list("name", flat=True))
        return
    for chunk in _chunks(map(local_part, keys)):
        yield from set(rows_of().filter(name__in=chunk).values_list("name", flat=True))


def _chunks(values: Iterable[T]) -> Iterator[list[T]]:
    values = iter(values)
    while chunk := list(islice(values, CHUNK)):
        yield chunk


def _on_server(node: str) -> set[str]:
    """Bare JIDs of those on a node whom its rule decides about: users of the site, and guests."""
    affiliated, subscribed = nodes.affiliations(node), nodes.subscriptions(node)
    try:
        members = {bare_jid(jid): state for jid, state in answer(affiliated).items()}
        subscribers = {bare_jid(subscription.jid) for subscription in answer(subscribed)}
    except RequestRefused as error:
        if error.condition != "item-not-found":  # a node that is not there
            raise
        return set()
    guests = conf.guest_domain.lower()
    return {
        jid
        for jid in {*members, *subscribers}
        if key_in(jid) is not None
        or (jid.rpartition("@")[2] == guests and members.get(jid) not in MEMBERS)
    }


def _end_subscriptions(node: str, jid: str) -> None:
    """End those of a guest, who is no member."""
    found = answer(nodes.subscriptions(node))
    end_subscriptions(node, [each.jid for each in found if bare_jid(each.jid) == jid])
