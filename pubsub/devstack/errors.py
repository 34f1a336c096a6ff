"""The one error of the stack."""

from __future__ import annotations

from pubsub.exceptions import PubSubError


class StackError(PubSubError):
    """The stack cannot be set up or started; the message says why and what to do."""
