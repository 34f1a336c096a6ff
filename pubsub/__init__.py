"""django-pubsub: a change in Django appears on every subscribed screen.

This is the front door: names only.  ``pubsub`` is the registry, and its methods are here as well::

    from pubsub import pubsub, publish

    pubsub.register(Tweet)
    publish("/home", "Hello")

The package is no XMPP library; what it knows of XMPP is in ``pubsub.wire``.
"""

from pubsub.publishing import publish, retract
from pubsub.registry import pubsub

register = pubsub.register
unregister = pubsub.unregister
is_registered = pubsub.is_registered

__version__ = "1.0.dev0"

__all__ = ["is_registered", "publish", "pubsub", "register", "retract", "unregister"]
