"""Where items go: one module per way of sending, chosen by PUBSUB_BACKEND."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, cast

from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.module_loading import import_string

from pubsub.backends.base import BaseBackend
from pubsub.conf import conf

if TYPE_CHECKING:  # its models cannot be imported before Django is ready
    from pubsub.backends.outbox import OutboxBackend

_instances: dict[str, BaseBackend] = {}
_instances_lock = threading.Lock()


def get_backend() -> BaseBackend:
    """The backend that PUBSUB_BACKEND names, one instance per process.

    :raises ImproperlyConfigured: when it names no backend.
    """
    path = conf.backend
    backend = _instances.get(path)
    if backend is None:
        backend_class = import_backend(path)
        with _instances_lock:
            backend = _instances.get(path)
            if backend is None:
                backend = _instances[path] = backend_class()
    return backend


def get_outbox() -> OutboxBackend | None:
    """The backend that PUBSUB_BACKEND names, if it is an outbox; else None."""
    try:
        backend = get_backend()
    except ImproperlyConfigured:
        return None  # which is told where something is to be sent
    return cast("OutboxBackend", backend) if backend.is_outbox else None


def import_backend(path: str, setting: str = "PUBSUB_BACKEND") -> type[BaseBackend]:
    """The class behind a dotted path.

    :param setting: which names it, for error messages.
    :raises ImproperlyConfigured: when there is none, or it is no backend.
    """
    try:
        backend_class = import_string(path)
    except (ImportError, ValueError) as error:
        raise ImproperlyConfigured(f"{setting} = {path!r} cannot be imported: {error}") from error
    if not (isinstance(backend_class, type) and issubclass(backend_class, BaseBackend)):
        raise ImproperlyConfigured(
            f"{setting} = {path!r} is no subclass of pubsub.backends.base.BaseBackend"
        )
    return backend_class


def _forget_parents() -> None:
    """In a forked child: somebody else's locks may be held for ever; begin anew."""
    global _instances_lock
    _instances_lock = threading.Lock()
    _instances.clear()


os.register_at_fork(after_in_child=_forget_parents)


@receiver(setting_changed)
def _forget_instances(*, setting: str, **kwargs: Any) -> None:
    """In tests: a backend made from other settings must not serve on."""
    if setting.startswith(("XMPP_", "PUBSUB_")):
        with _instances_lock:
            closing = list(_instances.values())
            _instances.clear()
        for backend in closing:
            backend.close()
