"""What a fork must not come in the middle of.

OpenSSL takes locks of its own while Python lets other threads go on.  A fork at that moment leaves
them locked in the child for ever, and the child's first TLS would never begin.
"""

from __future__ import annotations

import os
import threading

#: A fork waits no longer than that, in seconds: whoever forks may hold what is waited for here.
LIMIT = 3.0

#: How often who waits looks whether he is in a child by now, in seconds.
LOOK = 1.0

# Re-entrant: a signal may come while it is held, and its handler may fork.
_lock = threading.RLock()
_forking = threading.local()


class whole:  # noqa: N801 (a context manager)
    """What is done within it is done when this process forks, or has not begun.

    It must not wait, neither for the network nor for another thread: a fork waits for it.
    """

    __slots__ = ("_held",)

    def __enter__(self) -> None:
        # In a child, forked by a signal's handler while we waited, the lock is another one.
        while not (lock := _lock).acquire(timeout=LOOK):
            pass
        self._held = lock

    def __exit__(self, *error: object) -> None:
        self._held.release()


def _before() -> None:
    _forking.holds = False  # a signal's handler may raise while we wait
    _forking.holds = _lock.acquire(timeout=LIMIT)


def _after_in_parent() -> None:
    if _forking.holds:
        _lock.release()


def _after_in_child() -> None:
    """Threads that hold the lock, or were waiting for it, are none of ours."""
    global _lock
    _lock = threading.RLock()


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
