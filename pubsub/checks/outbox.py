"""Checks of the outbox: who sends what is in it, and whether it is where it is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.db import router

from pubsub.backends import get_outbox, import_backend
from pubsub.conf import conf
from pubsub.registry import pubsub


def check_outbox(**kwargs: Any) -> list[CheckMessage]:
    """Every problem of the outbox, each with an id and a hint; none where it is not in use."""
    if get_outbox() is None:
        return []
    return [*_check_relay(), *_check_databases()]


def _check_relay() -> Iterator[CheckMessage]:
    hint = "Name the class that sends, such as 'pubsub.backends.xmpp.XMPPBackend'."
    try:
        backend = import_backend(conf.relay_backend, "PUBSUB_RELAY_BACKEND")
    except ImproperlyConfigured as error:
        yield Error(str(error), hint=hint, id="pubsub.E027")
        return
    if backend.is_outbox:
        yield Error(
            f"PUBSUB_RELAY_BACKEND = {conf.relay_backend!r} only fills the outbox.",
            hint=hint,
            id="pubsub.E028",
        )


def _check_databases() -> Iterator[CheckMessage]:
    items = apps.get_model("pubsub", "OutboxItem")
    for publication in pubsub.publications:
        alias = router.db_for_write(publication.model)
        if not router.allow_migrate_model(alias, items):
            yield Error(
                f"Saves of {publication.model._meta.label} go to the database {alias!r}, which "
                "has no outbox.",
                hint="A save and what it publishes are one transaction: let your database router "
                f"allow the app 'pubsub' on {alias!r} (allow_migrate), and run migrate there.",
                obj=publication.model,
                id="pubsub.E029",
            )
