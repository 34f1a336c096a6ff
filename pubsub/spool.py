"""A spool: a list of any length that takes no more memory than a short one."""

from __future__ import annotations

import pickle
import tempfile
import weakref
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

#: So many values are pickled at once, and read back at once.
CHUNK = 500

#: What is written goes to a file beyond so many bytes.
IN_MEMORY = 1_000_000


class Spool(Generic[T]):
    """Keeps values in order, and gives them back in chunks, once.

    They are pickled: beyond a megabyte they are in a temporary file, which nobody else sees.
    """

    def __init__(self) -> None:
        self._chunk: list[T] = []
        self._file: tempfile.SpooledTemporaryFile[bytes] | None = None
        self._size = 0
        self._can_be_pickled = True

    def __len__(self) -> int:
        return self._size

    def append(self, value: T) -> None:
        """Keep a value; one that cannot be pickled stays in memory, with all that come after it."""
        self._chunk.append(value)
        self._size += 1
        if len(self._chunk) >= CHUNK and self._can_be_pickled:
            self._write()

    def chunks(self) -> Iterator[list[T]]:
        """Lists of up to :data:`CHUNK` values, in their order; then it is empty."""
        last, self._chunk, file, self._file = self._chunk, [], self._file, None
        self._size = 0
        if file is not None:
            with file:
                end = file.tell()
                file.seek(0)
                while file.tell() < end:
                    yield pickle.load(file)  # noqa: S301 (our own file)
        for start in range(0, len(last), CHUNK):
            yield last[start : start + CHUNK]

    # Private

    def _write(self) -> None:
        try:
            # As a whole: half a pickle in the file would spoil what follows.
            data = pickle.dumps(self._chunk)
        except Exception:  # noqa: BLE001 (whatever the values are, they are kept)
            self._can_be_pickled = False
            return
        if self._file is None:
            self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 (lives on)
            # What is rolled back is dropped, and nobody reads it to the end.
            weakref.finalize(self, self._file.close).atexit = False
        self._file.write(data)
        self._chunk = []
