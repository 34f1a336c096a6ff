"""A save and what the outbox holds of it are one transaction, even where Django needs none.

Outside a transaction Django commits a row before it sends ``post_save``; what ended the process
between the two would lose the announcement.  So the registered models save within a transaction
while the outbox is in use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import router, transaction
from django.db.models import Model

from pubsub.backends import get_outbox

#: Under this name our method keeps what it stands for.
_ORIGINAL = "_pubsub_original"


def join(model: type[Model]) -> None:
    """Let a model save in one transaction with what is announced of it."""
    original: Callable[..., None] | None = model.__dict__.get("save_base")
    if hasattr(original, _ORIGINAL):
        return

    def save_base(self: Model, *args: Any, using: str | None = None, **kwargs: Any) -> None:
        inherited: Any = super(model, self)
        call = inherited.save_base if original is None else original.__get__(self)
        if get_outbox() is None:
            call(*args, using=using, **kwargs)
            return
        using = using or router.db_for_write(type(self), instance=self)
        if transaction.get_connection(using).in_atomic_block:
            call(*args, using=using, **kwargs)
            return
        with transaction.atomic(using=using):
            call(*args, using=using, **kwargs)

    save_base.alters_data = True  # type: ignore[attr-defined]
    setattr(save_base, _ORIGINAL, original)
    model.save_base = save_base  # type: ignore[method-assign]


def part(model: type[Model]) -> None:
    """Let a model save as it did before."""
    ours = model.__dict__.get("save_base")
    if not hasattr(ours, _ORIGINAL):
        return
    original = getattr(ours, _ORIGINAL)
    if original is None:
        del model.save_base
    else:
        model.save_base = original  # type: ignore[method-assign]
