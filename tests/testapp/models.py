"""The models of the tests."""

from __future__ import annotations

import uuid
from typing import Any

import django
from django.db import models

from pubsub import PublishedManager


class Author(models.Model):
    name = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.name


class Penname(Author):
    class Meta:
        proxy = True


class Initials(Penname):
    class Meta:
        proxy = True


class Post(models.Model):
    title = models.CharField(max_length=200)
    body = models.TextField(blank=True)
    author = models.ForeignKey(Author, models.CASCADE, null=True)
    readers = models.ManyToManyField(Author, related_name="read")
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.title


class Ticket(models.Model):
    """Has columns whose values Django converts while it saves."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    day = models.DateField(null=True)
    price = models.DecimalField(max_digits=6, decimal_places=2, default=0)
    visits = models.IntegerField(default=0)
    author = models.ForeignKey(Author, models.CASCADE, null=True)

    def __str__(self) -> str:
        return str(self.pk)


class Timed(models.Model):
    """Has no rows: it is abstract."""

    at = models.DateTimeField()

    class Meta:
        abstract = True


class Place(models.Model):
    """The eldest of three models with tables of their own."""

    name = models.CharField(max_length=200)
    guests = models.ManyToManyField(Author)

    def __str__(self) -> str:
        return self.name


class Restaurant(Place):
    stars = models.IntegerField(default=0)


class Pizzeria(Restaurant):
    oven = models.CharField(max_length=20, blank=True)


class Person(models.Model):
    """Is known by a natural key, and a friend of others, who are friends of his."""

    email = models.CharField(max_length=200, unique=True, null=True)
    friends = models.ManyToManyField("self")

    def __str__(self) -> str:
        return str(self.email)

    def natural_key(self) -> tuple[str | None]:
        return (self.email,)


class Badge(models.Model):
    """Has a key that is put together from several things, as text."""

    code = models.CharField(max_length=200, primary_key=True)
    person = models.ForeignKey(Person, models.CASCADE, null=True)

    def __str__(self) -> str:
        return self.code

    def get_absolute_url(self) -> str:
        return f"https://example.org/badges/{self.code}"


class Seat(models.Model):
    """Publishes bulk operations."""

    number = models.IntegerField(unique=True)
    row = models.CharField(max_length=10, default="A")
    taken = models.BooleanField(default=False)
    sitters = models.ManyToManyField(Author)

    objects: Any = PublishedManager()

    def __str__(self) -> str:
        return f"{self.row}{self.number}"


class Lounge(Seat):
    """A Seat with a table of its own, and with its parent's manager."""

    sofa = models.BooleanField(default=False)


class Shelf(models.Model):
    """Is known by two columns together, one of them a relation."""

    owner = models.ForeignKey(Author, models.CASCADE)
    number = models.IntegerField()
    label = models.CharField(max_length=200, blank=True)

    objects: Any = PublishedManager()

    class Meta:
        unique_together = [("owner", "number")]

    def __str__(self) -> str:
        return self.label


if django.VERSION >= (5, 2):

    class Booking(models.Model):
        """Has a primary key of two columns."""

        pk = models.CompositePrimaryKey("day", "number")
        day = models.DateField()
        number = models.IntegerField()
        name = models.CharField(max_length=200, blank=True)

        objects: Any = PublishedManager()

        def __str__(self) -> str:
            return f"{self.day} {self.number}"
