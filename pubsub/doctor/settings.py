"""What the settings say: which backend there is, and what Django's checks find wrong with it."""

from __future__ import annotations

from collections.abc import Iterator

from django.core import checks
from django.core.exceptions import ImproperlyConfigured

from pubsub.backends import import_backend
from pubsub.conf import conf
from pubsub.doctor.findings import Finding, failure, fine, warning
from pubsub.doctor.site import Site


def examine_backend(site: Site) -> Iterator[Finding]:
    """Whether what is published goes anywhere."""
    try:
        backend = import_backend(conf.backend)
        path = site.backend_path
        if backend.is_outbox:
            import_backend(path, "PUBSUB_RELAY_BACKEND")
    except ImproperlyConfigured as error:
        yield failure(
            str(error),
            "Nothing can be published.",
            "Set PUBSUB_BACKEND = 'pubsub.backends.xmpp.XMPPBackend', or remove it.",
        )
        return
    if backend.is_outbox:
        yield fine(f"PUBSUB_BACKEND = {conf.backend!r}; a relay sends by {path!r}")
    elif backend.manages_nodes:
        yield fine(f"PUBSUB_BACKEND = {conf.backend!r}")
    else:
        yield warning(
            f"PUBSUB_BACKEND = {conf.backend!r} talks to no server",
            "No page hears of anything, and there is no server that could be examined.",
            "In production remove PUBSUB_BACKEND, or set it to 'pubsub.backends.xmpp.XMPPBackend'.",
        )


def examine_checks(site: Site) -> Iterator[Finding]:
    """Errors of ``manage.py check --tag pubsub``."""
    found = checks.run_checks(tags=["pubsub"])
    errors = [message for message in found if message.level >= checks.ERROR]
    for message in errors:
        yield failure(
            f"{message.id}: {message.msg}",
            "Django's own checks call it an error.",
            str(message.hint or "See the text of the check."),
        )
    others = len(found) - len(errors)
    if not errors:
        yield fine("no errors" + (f"; {others} warnings (manage.py check)" if others else ""))
