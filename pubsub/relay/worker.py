"""One worker of the relay: sends what is in the lanes of one stream, batch by batch.

A row that was acknowledged stays for some seconds, because ejabberd writes what it has
acknowledged to its disk later: if it dies before, the row is sent again.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from concurrent.futures import Future, wait
from datetime import datetime, timedelta

from django.db import Error
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from pubsub.backends.base import BaseBackend
from pubsub.conf import conf
from pubsub.futures import resolved
from pubsub.items import LANES, Item, Place
from pubsub.models import OutboxItem, OutboxLane, State
from pubsub.payloads import marked
from pubsub.publishing import report_failure, report_success
from pubsub.relay.lanes import Stripe, held, in_order
from pubsub.relay.noting import Notes
from pubsub.relay.outcomes import TRIES, Batch
from pubsub.relay.pauses import Pauses, place_of
from pubsub.relay.reading import Reader
from pubsub.relay.suspicion import Suspicion, accuses

logger = logging.getLogger("pubsub.relay")

#: So many rows are sent one behind the other before their answers are awaited.
AT_ONCE = 500

#: ... and so many characters of payload.
SIZE = 8_000_000

#: Seconds after which ejabberd has written to its disk what it has acknowledged.
SETTLED = 5.0

#: Seconds between two looks at what was to be sent later, and at what has settled.
LOOK = 1.0


class Worker:
    """Reads, sends and removes what is in a stripe of lanes.

    :param backend: made by its class's ``for_relay()``.
    :param throttles: whether updates wait for their interval to be over.
    """

    def __init__(self, stripe: Stripe, backend: BaseBackend, *, throttles: bool = True) -> None:
        self.stripe = stripe
        #: How many rows were ``sent``, ``read``, ``refused`` and put off until ``later``.
        self.counts: Counter[str] = Counter()
        self._backend = backend
        self._throttles = throttles
        self._reader = Reader(stripe)
        self._pauses = Pauses()
        self._stream = ""
        self._since: datetime | None = None
        self._proven: set[int] = set()
        self._suspicion = Suspicion(AT_ONCE)
        self._notes = Notes(stripe)
        self._next_look = 0.0
        self._is_connected = False

    def turn(self) -> int:
        """Do what can be done now; returns how many rows it concerned.

        :raises PubSubError: when the server is not there.
        :raises django.db.Error: when the database is not.
        """
        done = self._send()  # first what somebody may be waiting for
        read = self._reader.turn()
        self.counts["read"] += read
        self.counts["refused"] += self._reader.refused
        self._reader.refused = 0
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK
            done += self._wake() + self._settle()
        return done + read

    def settle(self) -> bool:
        """Remove what has settled, for good; returns whether nothing has to be sent again."""
        return not self._settle()

    def forget(self) -> None:
        """After an error: nothing is known of the stream any more."""
        self._is_connected = False
        self._proven = set()  # what we noted may have been rolled back

    @property
    def patience(self) -> float:
        """Seconds until there may be something to do again, even if nobody calls."""
        if self._reader.left:
            return 0.05  # somebody holds a row that is to be read
        return max(0.0, self._next_look - time.monotonic())

    # Private

    @property
    def _rows(self) -> QuerySet[OutboxItem]:
        return OutboxItem._base_manager.using(self.stripe.using)

    def _connect(self) -> None:
        """See to it that there is a stream, and learn its name."""
        if self._is_connected:
            return
        name = self._backend.sign_of_life(self.stripe.number).result()
        if name != self._stream or self._since is None:
            # The server may have died with what it had acknowledged before.
            self._stream = name
            self._since = self._now()
            self._proven = set()
        self._is_connected = True

    def _now(self) -> datetime:
        """The time by the database's clock, which all relays share."""
        lanes = OutboxLane._base_manager.using(self.stripe.using)
        time: datetime = lanes.annotate(now=Now()).values_list("now", flat=True)[0]
        return time

    def _send(self) -> int:
        """Send a batch; returns how many rows it had."""
        waiting = Q(state=State.WAITING)
        if not self._is_connected:
            if not self.stripe.items().filter(waiting).exists():
                return 0
            self._connect()
        try:
            with held(self.stripe, waiting) as lanes:
                self._send_again(lanes)
                rows = self._waiting(lanes)
                sending = self._hold_back(rows)
                batch = self._transmit(sending, lanes)
                self._note(batch)
                self._judge(batch, len(sending))
        except Error:
            # Our locks are gone, perhaps for long: what we have sent may have come after what
            # another relay has.  So all that has not settled is sent again.
            self._stream = ""
            raise
        self._tell(batch)
        if batch.lost:
            self._is_connected = False
            raise batch.lost[0][1]
        return len(rows)

    def _waiting(self, lanes: dict[int, str]) -> list[OutboxItem]:
        """The oldest rows that wait in lanes: not too many, and not too much of them."""
        limit = min(self._suspicion.lot, conf.queue_size)
        waiting = self._rows.filter(state=State.WAITING)
        rows = sorted(in_order(waiting, lanes, limit), key=lambda row: row.pk)[:limit]
        size = 0
        for number, row in enumerate(rows):
            size += len(row.payload)
            if size > SIZE and number > 0:
                return rows[:number]
        return rows

    def _hold_back(self, rows: list[OutboxItem]) -> list[OutboxItem]:
        """Put off updates whose time has not come; of several of one item the last one stays."""
        held: dict[Place, OutboxItem] = {}
        sending: list[OutboxItem] = []
        obsolete: list[int] = []
        for row in rows:
            place = place_of(row)
            if place in held:
                obsolete.append(held.pop(place).pk)
            if self._throttles and (left := self._pauses.left(row)):
                row.due = timezone.now() + timedelta(seconds=left)
                held[place] = row
                self._look_in(left)
            else:
                self._pauses.begin(row)
                sending.append(row)
        self._notes.held_back(list(held.values()))
        self._notes.remove(obsolete)
        return sending

    def _transmit(self, rows: list[OutboxItem], lanes: dict[int, str]) -> Batch:
        """Send rows, and wait until it is known what became of them."""
        items = [item_of(row, lanes[row.lane]) for row in rows]
        futures = self._backend.send_all(items, self._stream)
        wait(futures)
        batch = Batch()
        for row, future in zip(rows, futures, strict=True):
            batch.add(row, future)
        self._retract_again(batch, rows)
        return batch

    def _retract_again(self, batch: Batch, rows: list[OutboxItem]) -> None:
        """See to it that what was to be taken away, and is said to be missing, is not there."""
        latest = {place_of(row): row.pk for row in rows}
        doubtful: dict[int, Future[str]] = {}
        for row in batch.missing:
            if latest[place_of(row)] == row.pk:  # or something else has come to its place
                doubtful[row.pk] = self._backend.retract_again(row.node, row.item_id)
        wait(doubtful.values())
        missing, batch.missing = batch.missing, []
        for row in missing:
            batch.add(row, doubtful.get(row.pk) or resolved(row.item_id))

    def _note(self, batch: Batch) -> None:
        """Write down what became of a batch."""
        again = [entry for entry in batch.refused if entry[0].tries + 1 < TRIES]
        batch.refused = [entry for entry in batch.refused if entry not in again]
        for row, error in [*batch.later, *again]:
            self._look_in(self._notes.put_off(row, error).total_seconds())
        for row, error in batch.refused:
            self._notes.set_aside(row, error)
        self._notes.sent(batch.sent)
        self.counts["sent"] += len(batch.sent)
        self.counts["later"] += len(batch.later) + len(again)
        self.counts["refused"] += len(batch.refused)

    def _judge(self, batch: Batch, count: int) -> None:
        """After a loss: find the row that ends the stream whenever it is sent.

        :param count: how many rows were sent.
        """
        if not batch.lost:
            self._suspicion.answered()
            return
        row, error = batch.lost[0]
        if not self._suspicion.lost(row.pk, error, was_alone=count == 1):
            return
        if accuses(error):
            self._notes.set_aside(row, error)
            self.counts["refused"] += 1
            batch.refused.append((row, error))
        else:  # perhaps the network is to blame, and not for ever
            self._look_in(self._notes.put_off(row, error).total_seconds())
            self.counts["later"] += 1

    def _look_in(self, seconds: float) -> None:
        """Look again at what was to be sent later, so soon at the latest."""
        self._next_look = min(self._next_look, time.monotonic() + seconds)

    def _wake(self) -> int:
        """Let those wait again whose time has come; returns how many these are."""
        due = Q(state=State.LATER, due__lte=timezone.now())
        if not self._throttles:  # what another relay has held back, too
            due |= Q(state=State.LATER, tries=0)
        if not self._rows.filter(due).exists():
            return 0
        with held(self.stripe, due, LANES) as lanes:
            rows = self._rows.filter(due, lane__in=lanes)
            return rows.update(state=State.WAITING, due=None) if lanes else 0

    def _send_again(self, lanes: dict[int, str]) -> int:
        """Let wait again what was acknowledged before our stream was there, once for each lane.

        Returns how many rows these are.

        The server may have died since, without what it had not written to its disk.  What others
        have sent in the lane meanwhile follows it, or older states would replace theirs.
        """
        unproven = set(lanes) - self._proven
        if not unproven:
            return 0
        sent = self._rows.filter(state=State.SENT, lane__in=unproven)
        doubtful = set(sent.filter(sent__lt=self._since).values_list("lane", flat=True))
        again = sent.filter(lane__in=doubtful)
        count = again.update(state=State.WAITING) if doubtful else 0
        self._proven |= unproven
        return count

    def _settle(self) -> int:
        """Remove what was acknowledged long enough ago by a server that still lives.

        Returns how many rows are to be sent again instead.
        """
        if not self.stripe.items().filter(state=State.SENT).exists():
            return 0
        self._connect()
        before = self._now() - timedelta(seconds=SETTLED)
        if self._backend.sign_of_life(self.stripe.number).result() != self._stream:
            self._is_connected = False
            return 0
        with held(self.stripe, Q(state=State.SENT), LANES) as lanes:
            again = self._send_again(lanes)
            settled = self._rows.filter(state=State.SENT, lane__in=lanes, sent__lt=before)
            settled._raw_delete(self.stripe.using)
        return again

    def _tell(self, batch: Batch) -> None:
        """Send our signals, with the transaction behind us: receivers do what they like."""
        for row in batch.sent:
            report_success(item_of(row), row.item_id)
        for row, error in batch.refused:
            report_failure(item_of(row), error)


def item_of(row: OutboxItem, source: str = "") -> Item:
    """The item of a row.

    :param source: marks its payload, so that pages know repeats.
    """
    payload = row.payload
    if payload and source and row.is_numbered:
        payload = marked(payload, f"{source}.{row.pk}")
    at = row.at if timezone.is_aware(row.at) else timezone.make_aware(row.at)
    return Item(row.node, row.item_id, row.event, payload, at, configuration=row.configuration)
