"""The signals that we send, and the log lines that they make.

Both are sent with Item as their sender, and from the thread that learns of the outcome: usually
the one that owns the stream, so a receiver must not take long and must not touch what belongs to
the request.  Exceptions in it are logged and go no further.
"""

from __future__ import annotations

import logging
from typing import Any

from django.dispatch import Signal, receiver

from pubsub.exceptions import PubSubError
from pubsub.items import Item

logger = logging.getLogger("pubsub")

#: The server has acknowledged an item.  Arguments: ``item``, an Item, and ``item_id``, its id.
item_published = Signal()

#: An item was not published.  Arguments: ``item``, an Item, or None where none could be made;
#: ``error``, the exception; ``about``, what was to be published, in words; and ``model``, ``pk``
#: and ``event`` of the row that no item could be made of, else None.
publish_failed = Signal()


@receiver(item_published)
def _log_published(item: Item, item_id: str, **kwargs: Any) -> None:
    logger.debug("Published %s on %s (%s)", _line(item_id), _line(item.node), item.event)


@receiver(publish_failed)
def _log_failed(about: str, error: BaseException, **kwargs: Any) -> None:
    # Our own errors say all there is to say.
    trace = None if isinstance(error, PubSubError) else error
    logger.error("Could not publish %s: %s", _line(about), error, exc_info=trace)


def _line(text: str) -> str:
    """A text that users may have chosen, so that it begins no line of a log."""
    return text if text.isprintable() else repr(text)
