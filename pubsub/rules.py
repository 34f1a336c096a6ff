"""Who may read which private nodes: functions of the site, found by the names of nodes.

What lives here asks nobody but those functions.  A rule makes its nodes private, whoever creates
them; the anonymous are never asked about, and may not read them.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

from django.core.exceptions import (
    ImproperlyConfigured,
    ObjectDoesNotExist,
    PermissionDenied,
    SynchronousOnlyOperation,
)
from django.http import Http404
from django.urls.resolvers import RoutePattern

from pubsub.payloads import shortened

Function = TypeVar("Function", bound=Callable[..., bool])

logger = logging.getLogger("pubsub")

#: The configuration of a node that only its members may read (XEP-0060 §4.5).
PRIVATE = "whitelist"


@dataclass(frozen=True)
class Rule:
    """A pattern, and the function that decides about the nodes that it matches."""

    pattern: RoutePattern
    route: str
    function: Callable[..., bool]

    @property
    def name(self) -> str:
        """The function, as logs name it."""
        function: Any = self.function
        name = getattr(function, "__qualname__", None) or repr(function)
        return f"{getattr(function, '__module__', '')}.{name}"

    def matches(self, node: str) -> bool:
        """Whether the pattern fits a node's name; no converter is asked, so it is so for ever."""
        return self.pattern.regex.search(node) is not None

    def arguments(self, node: str) -> dict[str, Any] | None:
        """What the pattern finds in a node's name, converted; None where a converter refuses it."""
        found = self.pattern.match(node)
        return None if found is None else dict(found[2])


def authorize(*patterns: str) -> Callable[[Function], Function]:
    """Let a function decide who may read the nodes that a pattern matches; they become private.

    ::

        @pubsub.authorize("/blog/Blog/<int:pk>")
        def may_read_blog(user, pk):
            return user.has_perm("blog.view_blog")

    The function is called with a user who is logged in and active, and with what the pattern found,
    and returns True or False.  What it raises counts as no, and is logged, as any other answer.
    The first pattern that matches decides; a private node that none matches is closed to all.
    A pattern matches by the expressions of its converters: a name that one of them then refuses is
    still the rule's, and the answer is no.

    :param patterns: of the whole name of a node, as in :func:`django.urls.path`; converters of the
        site's own have to be registered before.
    :raises ImproperlyConfigured: for what is no pattern.
    :raises TypeError: for no function, or one that is async.
    """
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise ImproperlyConfigured(
            f"authorize() takes patterns, such as '/blog/Blog/<int:pk>', not {patterns!r}"
        )
    compiled = [(_compiled(route), route) for route in patterns]

    def decorate(function: Function) -> Function:
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise TypeError(
                f"authorize() decorates an ordinary function that returns True or False, not "
                f"{function!r}"
            )
        for pattern, route in compiled:
            _add(Rule(pattern, route, function))
        return function

    return decorate


def withdraw(function: Callable[..., bool]) -> None:
    """Take the rules of a function back."""
    _rules[:] = [rule for rule in _rules if rule.function is not function]
    rule_of.cache_clear()


@lru_cache(4096)
def rule_of(node: str) -> Rule | None:
    """The rule that decides about a node; None where there is none."""
    return next((rule for rule in _rules if rule.matches(node)), None)


def allows(user: Any, node: str) -> bool:
    """Whether the rule of a node lets a user read it; no where the node has none.

    :param user: any; who is anonymous or not active may not.
    :raises SynchronousOnlyOperation: when the rule asks the database where an event loop runs: that
        says nothing about the user.
    """
    rule = rule_of(node)
    is_user = getattr(user, "is_authenticated", False) and getattr(user, "is_active", False)
    if rule is None or not is_user:
        return False
    about = f"The rule {rule.name}, asked about user {user.pk} on {shortened(node)},"
    try:
        arguments = rule.arguments(node)
        answer: Any = arguments is not None and rule.function(user, **arguments)
    except (ObjectDoesNotExist, PermissionDenied, Http404) as error:
        logger.info("%s says no: %s: %s", about, type(error).__name__, error)
        return False
    except SynchronousOnlyOperation:
        raise
    except Exception:
        logger.exception("%s failed, which counts as no", about)
        return False
    if not isinstance(answer, bool):
        logger.error("%s has to answer True or False: %r counts as no", about, answer)
        return False
    return answer


# Private

_rules: list[Rule] = []


def _compiled(route: str) -> RoutePattern:
    try:
        pattern = RoutePattern(route, is_endpoint=True)
        pattern.regex  # noqa: B018 (compiled when it is looked at)
    except ImproperlyConfigured as error:
        raise ImproperlyConfigured(
            f"authorize({route!r}): {error} Write it as for django.urls.path(), and register "
            "converters of your own before the module of the rule is imported."
        ) from error
    return pattern


def _add(rule: Rule) -> None:
    for place, other in enumerate(_rules):
        if (other.name, other.route) == (rule.name, rule.route):  # its module was loaded again
            _rules[place] = rule
            break
    else:
        _rules.append(rule)
    rule_of.cache_clear()
