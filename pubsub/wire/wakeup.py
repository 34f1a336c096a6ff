"""A pipe by which any thread wakes the one that waits in ``poll``."""

from __future__ import annotations

import contextlib
import os


class Wakeup:
    """Something to wait for that others can make ready.

    :raises OSError: when the process has no descriptor left.
    """

    def __init__(self) -> None:
        self._descriptors: tuple[int, ...] = ()
        self._descriptors = self._reading, self._writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self._writing, False)

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._reading

    def wake(self) -> None:
        """Make it ready, from any thread, without waiting."""
        with contextlib.suppress(BlockingIOError):  # full: it is ready anyway
            os.write(self._writing, b"\0")

    def clear(self) -> None:
        """Make it not ready, until somebody wakes again."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._reading, 4096)

    def close(self) -> None:
        """Give the descriptors back, as the last one who lets go of this does."""
        descriptors, self._descriptors = self._descriptors, ()
        for descriptor in descriptors:
            os.close(descriptor)

    __del__ = close
