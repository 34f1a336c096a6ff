"""What a fork must not come in the middle of.

OpenSSL takes locks of its own while Python lets other threads go on.  A fork at that moment leaves
them locked in the child for ever, and the child's first TLS would never begin.
"""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager

# Re-entrant: a signal may come while it is held, and its handler may fork.
_lock = threading.RLock()


def whole() -> AbstractContextManager[object]:
    """What is done within it is done when this process forks, or has not begun.

    It must not wait, neither for the network nor for another thread: a fork waits for it.
    """
    return _lock


def _before() -> None:
    _lock.acquire()


def _after_in_parent() -> None:
    _lock.release()


def _after_in_child() -> None:
    """Threads that were waiting for the lock are none of ours."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
