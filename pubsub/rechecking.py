"""Asks the rules of private nodes again, about those who were let in before."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TypeVar

from pubsub import nodes
from pubsub.admissions import end_subscriptions, find_user, put_out, remember, rows_of
from pubsub.backends import get_backend
from pubsub.conf import conf
from pubsub.errands import after_commit, answer, run
from pubsub.exceptions import RequestRefused
from pubsub.identities import bare_jid, key_in, local_part
from pubsub.items import valid_node
from pubsub.payloads import shortened
from pubsub.rules import PRIVATE, allows, rule_of
from pubsub.runners import passes

T = TypeVar("T")

logger = logging.getLogger("pubsub")

#: How many names go into one query.
CHUNK = 500

#: Who keeps his subscription to a private node whatever a rule says: he was let in by hand.
MEMBERS = ("owner", "publisher", "publish-only", "member")


def _nobody(_: str) -> None:
    """Tell nobody."""


def recheck(node: str, *, using: str | None = None) -> Future[list[str]]:
    """Ask the rule of a node again about everybody who was let in, and revoke where it says no.

    Of a node with a rule, users of the site and guests who are subscribed without having been let
    in, because the node was open before, are put out, too; who was let in by hand
    (:func:`pubsub.nodes.set_affiliations`) and is no user of the site stays.  Without a rule those
    are put out who were let in by one.  Inside a transaction this is done when it commits.

    A node that is open all the same is made private first.  While the server is away it waits, as
    long as the process lives; the log says so, once.

    :param using: as for :func:`pubsub.revoke`.
    :returns: a Future of the bare JIDs that were revoked, sorted; it fails with a PubSubError.
    :raises InvalidNode: for a name that no node can have.
    :raises BackendError: when the configured backend has no server.
    """
    name = valid_node(node)
    get_backend().require_server("set_subscriptions")
    revoked: set[str] = set()

    def ask() -> list[str]:
        recheck_node(name, revoked.add)
        return sorted(revoked)  # by all attempts

    begin = partial(
        run,
        ask,
        what=f"ask the rule of {shortened(name)} again",
        remedy=f"manage.py pubsub_recheck {shlex.quote(name)}",
        key=(recheck_node, name),
    )
    return after_commit(begin, using)


def recheck_node(node: str, tell: Callable[[str], object] = _nobody) -> list[str]:
    """Do what :func:`recheck` promises; waits for the server.

    What fails about one of them keeps nobody else in; it is raised in the end.

    :param tell: called with each JID that was revoked.
    """
    # First of all: who is let in later than this is asked about later, too.
    names = set(rows_of(node=node).values_list("name", flat=True))
    known = {f"{name}@{conf.user_domain}".lower() for name in names}
    has_rule = rule_of(node) is not None
    jids = known | _on_server(node) if has_rule else known
    revoked = []

    def ask(jid: str) -> None:
        if _is_to_go(node, jid, is_known=jid in known):
            revoked.append(jid)
            tell(jid)

    for_each(sorted(jids), ask)
    return revoked


def recheck_user(key: str, tell: Callable[[str], object] = _nobody) -> list[str]:
    """Ask all rules again about one user, and revoke where they say no; waits for the server.

    What fails about one node keeps him on no other one; it is raised in the end.

    :param key: his primary key as text, even if he is gone.
    :param tell: called with each node that he was put out of.
    :returns: the nodes that he was put out of.
    """
    found = set(rows_of(local_part(key)).values_list("node", flat=True))
    if not found:
        return []
    user = find_user(key)
    revoked = []

    def ask(node: str) -> None:
        if not allows(user, node):
            put_out(key, node)
            revoked.append(node)
            tell(node)

    for_each(sorted(found), ask)
    return revoked


def recheck_users(keys: Iterable[str] | None) -> None:
    """Ask all rules again about many users; waits for the server.

    :param keys: primary keys as text; None: everybody who was let in anywhere.
    """
    names = list(_admitted(keys))
    found = [key_in(f"{name}@{conf.user_domain}") for name in names]
    for_each([key for key in found if key is not None], recheck_user)


def for_each(values: Iterable[T], act: Callable[[T], object]) -> None:
    """Do something with all values, though it fails with some, unless the server is away.

    :raises Exception: in the end, one of those failures; the log has the others.
    """
    errors: list[Exception] = []
    for value in values:
        try:
            act(value)
        except Exception as error:  # noqa: BLE001 (raised below)
            errors.append(error)
            if get_backend().trouble() is not None:
                break
    if not errors:
        return
    # If some of it can be done later, all of it is tried again.
    errors.sort(key=lambda each: not passes(each))
    for other in errors[1:]:
        logger.error("Asking the rules of private nodes again: %s", other, exc_info=other)
    raise errors[0]


# Private


def _is_to_go(node: str, jid: str, *, is_known: bool) -> bool:
    """Put one of those out who are on a node, if he may not be there.

    :param is_known: whether he was let in by a rule, and is asked about whenever he changes.
    """
    key = key_in(jid)
    if key is None:
        _end_subscriptions(node, jid)
        return True
    is_allowed = allows(find_user(key), node)
    if is_allowed and not is_known:
        # From now on signals find him; but what they tell of may have been just before.
        remember(key, node)
        is_allowed = allows(find_user(key), node)
    if not is_allowed:
        put_out(key, node)
    return not is_allowed


def _admitted(keys: Iterable[str] | None) -> Iterator[str]:
    """The local parts of those among some users who were let in anywhere."""
    if keys is None:
        yield from set(rows_of().values_list("name", flat=True))
        return
    for chunk in _chunks(_names(keys)):
        yield from set(rows_of().filter(name__in=chunk).values_list("name", flat=True))


def _names(keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        with suppress(ValueError):  # it has no JID, and so is nowhere
            yield local_part(key)


def _chunks(values: Iterable[T]) -> Iterator[list[T]]:
    values = iter(values)
    while chunk := list(islice(values, CHUNK)):
        yield chunk


def _on_server(node: str) -> set[str]:
    """Bare JIDs of those on a node whom its rule decides about: users of the site, and guests.

    From now on the node is private.
    """
    try:
        if answer(nodes.configuration(node)).get("access_model") != PRIVATE:
            answer(nodes.configure(node, access_model=PRIVATE))
        affiliated, subscribed = nodes.affiliations(node), nodes.subscriptions(node)
        members = {bare_jid(jid): state for jid, state in answer(affiliated).items()}
        subscribers = {bare_jid(subscription.jid) for subscription in answer(subscribed)}
    except RequestRefused as error:
        if error.condition != "item-not-found":  # a node that is not there
            raise
        return set()
    ours = {conf.guest_domain.lower(), conf.user_domain.lower()}

    def is_ours(jid: str) -> bool:
        if key_in(jid) is not None:
            return True
        return jid.rpartition("@")[2] in ours and members.get(jid) not in MEMBERS

    return set(filter(is_ours, {*members, *subscribers}))


def _end_subscriptions(node: str, jid: str) -> None:
    """End those of a guest, who is no member."""
    found = answer(nodes.subscriptions(node))
    end_subscriptions(node, [each.jid for each in found if bare_jid(each.jid) == jid])
