"""What waits for a commit: of each row the last state only, however often it was changed.

Django drops the callbacks of a savepoint that is rolled back, and with it the only reference to
them; so whatever is still alive here will be called.
"""

from __future__ import annotations

import weakref
from collections.abc import Hashable, Iterable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary, ref

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from pubsub.items import CREATED, DELETED, UPDATED, Item, Place

T = TypeVar("T")

#: What two changes of one row in one transaction come to, seen from outside; None: nothing.
_TOGETHER: dict[tuple[str | None, str], str | None] = {
    (CREATED, UPDATED): CREATED,
    (CREATED, DELETED): None,
    (DELETED, CREATED): UPDATED,
}


class Announcement:
    """Something to be announced, called when Django has committed.

    :attr:`is_over` is set once it was called: tests of a project may keep it alive after that.
    """

    is_over = False

    def __call__(self) -> None:
        self.is_over = True
        self.send()

    def send(self) -> None:
        """Announce it."""
        raise NotImplementedError(f"{type(self).__name__} must define send()")


class Promise(Announcement, Generic[T]):
    """What was asked for by hand, whose caller has a Future: a rollback cancels it."""

    def __init__(self, future: Future[T]) -> None:
        self._future = future
        # Django drops its callbacks on a rollback, of a savepoint too; nothing else holds this one.
        self._cancel = weakref.finalize(self, future.cancel)
        self._cancel.atexit = False

    def send(self) -> None:
        # It would keep the Future, whose error may keep us.
        self._cancel.detach()
        if self._future.set_running_or_notify_cancel():  # or the caller has changed his mind
            self.keep_it()

    def keep_it(self) -> None:
        """Settle the Future: the transaction has committed."""
        raise NotImplementedError(f"{type(self).__name__} must define keep_it()")


class WaitingRow:
    """The announcements of one row that wait for the same commit, oldest first."""

    def __init__(self) -> None:
        self._waiting: list[tuple[ref[Announcement], str | None]] = []
        self._left: dict[Place, Item] = {}
        self._published: set[Place] = set()
        #: Whether somebody has told its last state already.
        self.is_told = False

    @property
    def waits(self) -> bool:
        """Whether anything of it still waits for the commit."""
        announcements = (reference() for reference, _ in reversed(self._waiting))
        return any(other is not None and not other.is_over for other in announcements)

    def announcements(self) -> list[Announcement]:
        """What of it still waits for the commit, oldest first."""
        found = (reference() for reference, _ in self._waiting)
        return [other for other in found if other is not None and not other.is_over]

    def add(self, announcement: Announcement, event: str | None) -> None:
        """Take one in that knows the row's latest state."""
        self._waiting.append((ref(announcement), event))
        self.is_told = False

    def after(self, event: str) -> str | None:
        """What an event comes to after those that wait already."""
        while self._waiting:
            reference, before = self._waiting[-1]
            announcement = reference()
            if announcement is not None and not announcement.is_over:
                return _TOGETHER.get((before, event), event)
            del self._waiting[-1]  # rolled back, or told
        return event

    def knows(self, announcement: Announcement) -> bool:
        """Whether this one was taken in."""
        return any(reference() is announcement for reference, _ in self._waiting)

    def is_last(self, announcement: Announcement) -> bool:
        """Whether nobody who waits knows a later state than this one."""
        for reference, _ in reversed(self._waiting):
            other = reference()
            if other is announcement:
                return True
            if other is not None and not other.is_over:
                return False
        return True

    def leave(self, items: Iterable[Item]) -> None:
        """Of a state that is not the last one only the retractions have to be told."""
        self._left |= {_place(item): item for item in items if item.is_retraction}

    def settle(self, items: Sequence[Item], *, is_newest: bool = False) -> list[Item]:
        """What is to be told when nobody who waits knows a later state than these items'.

        :param is_newest: whether the state is one of now, later than any that was told already.
        """
        left, self._left = self._left, {}
        places = {_place(item) for item in items}
        telling = [*(item for place, item in left.items() if place not in places), *items]
        if self.is_told and not is_newest:
            return [i for i in telling if i.is_retraction and _place(i) not in self._published]
        self.is_told = True
        self._published = {_place(item) for item in items if not item.is_retraction}
        return telling


class WaitingRows:
    """The rows with announcements that wait for one commit."""

    def __init__(self) -> None:
        self._rows: WeakValueDictionary[Hashable, WaitingRow] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: Hashable) -> WaitingRow | None:
        """The row, if anything of it waits."""
        return self._rows.get(key)

    def open(self, key: Hashable) -> WaitingRow:
        """The row; who adds an announcement to it has to keep it alive."""
        row = self._rows.get(key)
        if row is None or not row.waits:  # a test may keep alive what is over
            row = self._rows[key] = WaitingRow()
        return row


def waits_for_commit(using: str | None) -> bool:
    """Whether a database is in a transaction, or would be with its next statement.

    :param using: database alias; None means the default one.
    """
    connection = transaction.get_connection(using)
    # Without autocommit Django cannot tell us of the commit, and its on_commit() says so.
    manual = connection.connection is not None and not connection.autocommit
    return connection.in_atomic_block or manual


def is_of_test_case(using: str | None) -> bool:
    """Whether a database's transaction is but the one that Django's TestCase puts around a test."""
    blocks = transaction.get_connection(using).atomic_blocks
    return bool(blocks) and all(getattr(block, "_from_testcase", False) for block in blocks)


def rows_of(using: str | None) -> WaitingRows:
    """What waits for the commit of a database, in this thread."""
    connection = transaction.get_connection(using)
    rows = _rows.get(connection)
    if rows is None:
        rows = _rows[connection] = WaitingRows()
    return rows


def rows_of_transaction(using: str | None) -> WaitingRows:
    """What waits for the commit of the transaction that a database is in.

    While the callbacks of a commit are called, one of them may begin another transaction: what
    waits for its turn among them has been committed already.
    """
    for _, callback, *_ in reversed(transaction.get_connection(using).run_on_commit):
        if isinstance(callback, Announcement) and not callback.is_over:
            return rows_of(using)
    begin_anew(using)
    return rows_of(using)


def begin_anew(using: str | None) -> None:
    """Look at what follows as if a transaction began here; for the tests of projects."""
    _rows.pop(transaction.get_connection(using), None)


def _place(item: Item) -> Place:
    return item.node, item.id


def on_commit(announcement: Announcement, using: str | None) -> None:
    """Announce when the transaction of a database has committed.

    :raises TransactionManagementError: when its autocommit is switched off.
    """
    transaction.on_commit(announcement, using=using, robust=True)


#: Without a lock: a connection belongs to one thread.
_rows: WeakKeyDictionary[BaseDatabaseWrapper, WaitingRows] = WeakKeyDictionary()
