"""The outbox, where one is in use: does somebody send what is in it?"""

from __future__ import annotations

from collections.abc import Iterator

from django.core.exceptions import ImproperlyConfigured
from django.db import Error, connections, router

from pubsub import outbox
from pubsub.backends import import_backend
from pubsub.conf import conf
from pubsub.doctor.findings import Finding, Skipped, failure, fine, warning
from pubsub.doctor.site import Site
from pubsub.exceptions import AlreadyRelaying
from pubsub.models import OutboxItem
from pubsub.relay.alone import alone

#: For so many seconds a row may wait with a relay that is well, and with one that is busy.
LATE, LOST = 10.0, 60.0

START = (
    "Start `manage.py pubsub_relay`, and let the system keep it (deploy/pubsub-relay.service); its "
    "log says what holds it up."
)


def examine_outbox(site: Site) -> Iterator[Finding]:
    """Whether a relay is at work, and how long rows wait for it."""
    try:
        if not import_backend(conf.backend).is_outbox:
            raise Skipped(f"PUBSUB_BACKEND = {conf.backend!r} is no outbox")
    except ImproperlyConfigured as error:
        raise Skipped(str(error)) from error
    for alias in connections:
        if router.allow_migrate_model(alias, OutboxItem):
            yield from _of(alias)


# Private


def _of(alias: str) -> Iterator[Finding]:
    try:
        status = outbox.status(alias)
    except Error as error:
        yield failure(
            f"the outbox of the database {alias!r} cannot be read: {error}",
            "Saves of registered models fail where it cannot be written.",
            f"Run `manage.py migrate --database {alias}`.",
        )
        return
    seen = f"{alias!r}: {status}"
    if status.lag > LOST or (status.waiting and _nobody_relays(alias)):
        yield failure(seen, "Nobody sends it: no page hears what has been saved.", START)
    elif status.lag > LATE:
        yield warning(seen, "The relay does not keep up.", START)
    elif status.refused:
        yield warning(
            seen,
            "What is set aside was refused by the server, and is not tried again by itself.",
            "Look at it in the admin (Outbox items), mend the cause, and choose `Try again`.",
        )
    elif _nobody_relays(alias):
        yield warning(f"{seen}; no relay is at work on it", "The next save will wait.", START)
    else:
        yield fine(seen)


def _nobody_relays(alias: str) -> bool:
    """Whether it is known that no relay is there: where there can be one only, it has a lock."""
    connection = connections[alias]
    name = str(connection.settings_dict["NAME"])
    if connection.features.has_select_for_update or not name or "memory" in name:
        return False
    try:
        with alone(alias):
            return True
    except AlreadyRelaying:
        return False
    except OSError:
        return False
