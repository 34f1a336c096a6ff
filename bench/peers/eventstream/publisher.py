"""The process that calls ``send_event``, as a view or a management command would."""

import django
from django_eventstream import send_event

from bench.peers.publishing import obey


def publish(text: str) -> None:
    """Send an event; it is with Redis when this returns."""
    send_event("bench", "message", {"text": text})


if __name__ == "__main__":
    django.setup()
    obey(publish)
