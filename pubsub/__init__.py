"""django-pubsub: a change in Django appears on every subscribed screen.

This is the front door: names only.  ``pubsub`` is the registry, and its methods are here as well::

    from pubsub import pubsub, publish

    pubsub.register(Tweet)
    publish("/home", "Hello")

The package is no XMPP library; what it knows of XMPP is in ``pubsub.wire``.
"""

from pubsub.admissions import may_read, revoke
from pubsub.prebinding import aprebind, prebind
from pubsub.publications import Publication
from pubsub.publishing import apublish, aretract, publish, retract
from pubsub.querysets import PublishedManager, PublishedQuerySet
from pubsub.rechecking import recheck
from pubsub.registry import pubsub
from pubsub.rules import authorize
from pubsub.sessions import end_sessions

register = pubsub.register
unregister = pubsub.unregister
is_registered = pubsub.is_registered
publication_for = pubsub.publication_for
publish_rows = pubsub.publish_rows
muted = pubsub.muted

__version__ = "1.0.dev0"

__all__ = [
    "Publication",
    "PublishedManager",
    "PublishedQuerySet",
    "aprebind",
    "apublish",
    "aretract",
    "authorize",
    "end_sessions",
    "is_registered",
    "may_read",
    "muted",
    "prebind",
    "publication_for",
    "publish",
    "publish_rows",
    "pubsub",
    "recheck",
    "register",
    "retract",
    "revoke",
    "unregister",
]
