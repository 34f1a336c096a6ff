"""Which row a stream ends over, again and again: pure book-keeping.

After a stream was lost one row is sent alone, then two, then four, each lot when the one before has
been answered.  So the one that each stream ends over is soon found, even if the answers to those
before it are lost with the stream.
"""

from __future__ import annotations

from pubsub.exceptions import StreamLost
from pubsub.wire.outgoing import STRIKES, WITHOUT_A_WORD


class Suspicion:
    """What is suspected after a loss, and how many rows may be sent at once.

    :param most: how many rows are sent at once without any suspicion.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        #: How many rows may be sent at once.
        self.lot = most
        self._suspect: int | None = None
        self._strikes = 0.0

    def answered(self) -> None:
        """Note that all rows of a lot were answered."""
        self.lot = min(self._most, 2 * self.lot)

    def lost(self, pk: int, error: BaseException, *, was_alone: bool) -> bool:
        """Note that the stream was lost; returns whether that was over this row, beyond doubt.

        The server was there: it had given a sign of life on that stream.

        :param pk: of the first row that was not answered.
        :param was_alone: whether nothing else was sent.
        """
        self.lot = 1
        if not was_alone or not isinstance(error, StreamLost):
            return False
        if pk != self._suspect:
            self._suspect, self._strikes = pk, 0.0
        self._strikes += 1 if error.accuses else WITHOUT_A_WORD
        if self._strikes < STRIKES:
            return False
        self._suspect = None
        return True


def accuses(error: BaseException) -> bool:
    """Whether the server itself has said that it ended the stream over what it was sent."""
    return isinstance(error, StreamLost) and error.accuses
