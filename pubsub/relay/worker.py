"""One worker of the relay: sends what is in the lanes of one stream, batch by batch.

A row that was acknowledged stays for some seconds, because ejabberd writes what it has
acknowledged to its disk later: if it dies before, the row is sent again.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import wait
from datetime import datetime, timedelta

from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from pubsub.backends.base import BaseBackend
from pubsub.conf import conf
from pubsub.exceptions import StreamLost
from pubsub.items import LANES, Item, Place
from pubsub.models import OutboxItem, OutboxLane, State
from pubsub.payloads import marked
from pubsub.publishing import report_failure, report_success
from pubsub.relay.lanes import Stripe, held, in_order
from pubsub.relay.outcomes import TRIES, Batch, pause_after
from pubsub.relay.pauses import Pauses, place_of
from pubsub.relay.reading import Reader

logger = logging.getLogger("pubsub.relay")

#: So many rows are sent one behind the other before their answers are awaited.
AT_ONCE = 500

#: ... and so many characters of payload.
SIZE = 8_000_000

#: Seconds after which ejabberd has written to its disk what it has acknowledged.
SETTLED = 2.0

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
        self._suspect: int | None = None
        self._strikes = 0
        self._next_look = 0.0
        self._is_connected = False
        self._has_sent = True  # or the relay before us

    def turn(self) -> int:
        """Do what can be done now; returns how many rows it concerned.

        :raises PubSubError: when the server is not there.
        :raises django.db.Error: when the database is not.
        """
        done = self._reader.turn()
        self.counts["read"] += done
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK
            self._wake()
            self._settle()
        return done + self._send()

    def settle(self) -> None:
        """Remove what has settled, for good."""
        self._settle()

    def forget(self) -> None:
        """After an error: nothing is known of the stream any more."""
        self._is_connected = False

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
        with held(self.stripe, waiting) as lanes:
            self._send_again(lanes)
            limit = min(AT_ONCE, conf.queue_size)
            rows = sorted(in_order(self._rows.filter(waiting), lanes, limit), key=lambda r: r.pk)
            sending = self._hold_back(self._chosen(rows))
            batch = self._transmit(sending, lanes)
            self._note(batch, lanes)
        self._tell(batch)
        self._judge(batch)
        if batch.lost:
            self._is_connected = False
            raise batch.lost[0][1]
        return len(rows)

    def _chosen(self, rows: list[OutboxItem]) -> list[OutboxItem]:
        """Of the oldest rows those that are sent together: not too much, and a suspect alone."""
        if rows and rows[0].pk == self._suspect:
            return rows[:1]
        size = 0
        for number, row in enumerate(rows):
            size += len(row.payload)
            if row.pk == self._suspect or (size > SIZE and number > 0):
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
                self._next_look = min(self._next_look, time.monotonic() + left)
            else:
                self._pauses.begin(row)
                sending.append(row)
        for row in held.values():
            self._rows.filter(pk=row.pk).update(state=State.LATER, due=row.due)
        self._rows.filter(pk__in=obsolete)._raw_delete(self.stripe.using)
        self._supersede(held.values())
        return sending

    def _transmit(self, rows: list[OutboxItem], lanes: dict[int, str]) -> Batch:
        items = [item_of(row, lanes[row.lane]) for row in rows]
        futures = self._backend.send_all(items, self._stream)
        wait(futures)
        batch = Batch()
        for row, future in zip(rows, futures, strict=True):
            batch.add(row, future)
        return batch

    def _note(self, batch: Batch, lanes: dict[int, str]) -> None:
        """Write down what became of a batch."""
        sent = [row.pk for row in batch.sent]
        if sent:
            self._rows.filter(pk__in=sent).update(state=State.SENT, sent=Now(), error="")
            self._has_sent = True
        for row, error in batch.later:
            self._put_off(row, error)
        refused = [(row, error) for row, error in batch.refused if row.tries + 1 < TRIES]
        for row, error in refused:
            batch.refused.remove((row, error))
            self._put_off(row, error)
        for row, error in batch.refused:
            self._set_aside(row, error)
        self._supersede(batch.sent)
        self.counts["sent"] += len(sent)
        self.counts["later"] += len(batch.later) + len(refused)
        self.counts["refused"] += len(batch.refused)

    def _put_off(self, row: OutboxItem, error: BaseException) -> None:
        pause = pause_after(row.tries + 1)
        self._next_look = min(self._next_look, time.monotonic() + pause.total_seconds())
        self._rows.filter(pk=row.pk).update(
            state=State.LATER,
            due=timezone.now() + pause,
            tries=F("tries") + 1,
            error=words(error),
        )

    def _set_aside(self, row: OutboxItem, error: BaseException) -> None:
        self._rows.filter(pk=row.pk).update(
            state=State.REFUSED, tries=F("tries") + 1, error=words(error)
        )

    def _supersede(self, rows: Iterable[OutboxItem]) -> None:
        """Remove older states of these items that were put off or set aside."""
        latest = {place_of(row): row.pk for row in rows}
        if not latest:
            return
        aside = self.stripe.items().filter(state__in=[State.LATER, State.REFUSED])
        if not aside.exists():
            return
        ids = {item_id for _, item_id in latest}
        older = [
            pk
            for pk, node, item_id in aside.filter(item_id__in=ids).values_list(
                "pk", "node", "item_id"
            )
            if pk < latest.get((node, item_id), 0)
        ]
        self._rows.filter(pk__in=older)._raw_delete(self.stripe.using)

    def _wake(self) -> None:
        """Let those wait again whose time has come."""
        due = Q(state=State.LATER, due__lte=timezone.now())
        with held(self.stripe, due, LANES) as lanes:
            if lanes:
                self._rows.filter(due, lane__in=lanes).update(state=State.WAITING, due=None)

    def _send_again(self, lanes: dict[int, str]) -> None:
        """Let wait again what was acknowledged before our stream was there, once for each lane.

        The server may have died since, and what it had not written to its disk is lost.
        """
        unproven = set(lanes) - self._proven
        if unproven:
            sent = self._rows.filter(state=State.SENT, lane__in=unproven, sent__lt=self._since)
            sent.update(state=State.WAITING)
            self._proven |= unproven

    def _settle(self) -> None:
        """Remove what was acknowledged long enough ago by a server that still lives."""
        if not (self._has_sent and self.stripe.items().filter(state=State.SENT).exists()):
            self._has_sent = False
            return
        self._connect()
        before = self._now() - timedelta(seconds=SETTLED)
        if self._backend.sign_of_life(self.stripe.number).result() != self._stream:
            self._is_connected = False
            return
        with held(self.stripe, Q(state=State.SENT), LANES) as lanes:
            self._send_again(lanes)
            settled = self._rows.filter(state=State.SENT, lane__in=lanes, sent__lt=before)
            settled._raw_delete(self.stripe.using)

    def _judge(self, batch: Batch) -> None:
        """Find the row that ends the stream whenever it is sent, and set it aside.

        It is the first one that was not answered on a stream that had just been alive; the second
        time it is sent alone.
        """
        if not batch.lost:
            if any(row.pk == self._suspect for row in batch.sent):
                self._suspect = None
            return
        row, error = batch.lost[0]
        if not isinstance(error, StreamLost):
            return  # there was none
        self._strikes = self._strikes + 1 if row.pk == self._suspect else 1
        self._suspect = row.pk
        if self._strikes >= TRIES:
            ended = StreamLost(error.server, f"it ends whenever this is sent: {error.reason}")
            self._set_aside(row, ended)
            self.counts["refused"] += 1
            self._suspect = None
            report_failure(item_of(row), ended)

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
    return Item(row.node, row.item_id, row.event, payload, row.at, configuration=row.configuration)


def words(error: BaseException) -> str:
    """An error as the admin shows it."""
    return str(error) or repr(error)
