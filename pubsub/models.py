"""The outbox: what is to be published, as rows of the database that it is about.

A row is written in the transaction of what it tells of, so both are committed or neither is.  See
``docs/outbox.rst``.  And who was let in to which private nodes.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from django.db import models
from django.utils import timezone


class State(models.IntegerChoices):
    """Where a row of the outbox is on its way."""

    UNREAD = 0, "to be read"
    WAITING = 1, "waiting"
    LATER = 2, "to be sent later"
    SENT = 3, "acknowledged"
    REFUSED = 4, "set aside"


class OutboxItem(models.Model):
    """An item that waits to be sent, or a changed row that waits to be read and made into items.

    The ids grow in the order in which the states of one row came to be: a transaction that writes
    a row waits for the one that wrote it before.
    """

    state = models.PositiveSmallIntegerField(choices=State.choices, default=State.WAITING)
    #: What is in one lane is sent in order, by one relay at a time; a node has one lane.
    lane = models.SmallIntegerField()
    node = models.TextField()
    item_id = models.TextField()
    event = models.CharField(max_length=16)
    #: The ``<entry>``; a retraction has none.
    payload = models.TextField(blank=True)
    at = models.DateTimeField("happened")
    configuration = models.JSONField(default=dict)
    #: Whether what has a greater id is a later state of the item: then it bears its number.
    is_numbered = models.BooleanField(default=False)
    #: Seconds between two updates of the item.
    interval = models.FloatField(null=True)
    #: Of a row that has to be read first: which, and what became of it.
    change = models.JSONField(null=True)
    #: Not to be sent before.
    due = models.DateTimeField(null=True)
    sent = models.DateTimeField("acknowledged", null=True)
    tries = models.PositiveIntegerField(default=0)
    error = models.TextField(blank=True)

    class Meta:
        verbose_name = "outbox item"
        indexes = [models.Index(fields=["state", "lane", "id"], name="pubsub_outbox_way")]

    def __str__(self) -> str:
        return f"{self.item_id} on {self.node}" if self.node else f"a row ({self.event})"


class OutboxLane(models.Model):
    """A lane of the outbox, which a relay locks while it sends what is in it.

    :ivar source: marks what was sent from this table, so that pages know repeats.
    """

    id = models.SmallIntegerField(primary_key=True)
    source = models.CharField(max_length=16)

    class Meta:
        verbose_name = "outbox lane"

    def __str__(self) -> str:
        return f"lane {self.id}"


class Admission(models.Model):
    """A user who was let in to a private node, so that he can be put out again.

    What the server knows decides; this finds all nodes of a user.

    :ivar name: the local part of his JID, of ASCII characters that no collation takes for others.
    :ivar digest: tells nodes apart; some databases compare text without regard to case.
    :ivar is_settled: whether the server has been told.  Whoever revokes waits for those that are
        not: they may have been allowed just before.
    """

    name = models.CharField(max_length=500, db_index=True)
    node = models.TextField()
    digest = models.CharField(max_length=64, db_index=True)
    at = models.DateTimeField("admitted", default=timezone.now)
    is_settled = models.BooleanField(default=False)

    def __str__(self) -> str:
        return f"{self.name} on {self.node}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.digest = self.digest_of(self.node)
        super().save(*args, **kwargs)

    @staticmethod
    def digest_of(node: str) -> str:
        """A node's name in 64 characters, by which it is found."""
        return sha256(node.encode("utf-8", "surrogatepass")).hexdigest()
