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


class Parcel(models.Model):
    """Has a column of each kind that JSON has no type for."""

    weight = models.DecimalField(max_digits=8, decimal_places=3, default=0)
    label = models.BinaryField(null=True)
    invoice = models.FileField(null=True)
    contents = models.JSONField(null=True)
    travels = models.DurationField(null=True)
    token = models.UUIDField(default=uuid.uuid4, unique=True)
    sent_at = models.DateTimeField(null=True)
    opens = models.TimeField(null=True)
    sender = models.ForeignKey(Person, models.CASCADE, null=True)

    def __str__(self) -> str:
        return f"a parcel with {self.contents}"


class Seat(models.Model):
    """Publishes bulk operations."""

    number = models.IntegerField(unique=True)
    row = models.CharField(max_length=10, default="A")
    taken = models.BooleanField(default=False)
    sitters = models.ManyToManyField(Author)

    objects: Any = PublishedManager()

    def __str__(self) -> str:
        return f"{self.row}{self.number}"


class Shouted(models.CharField):
    """Has a text of its own for serializers."""

    def value_to_string(self, obj: models.Model) -> str:
        return str(self.value_from_object(obj)).upper()


class Whispered(models.CharField):
    """Has a value of its own for serializers."""

    def value_from_object(self, obj: models.Model) -> Any:
        return str(super().value_from_object(obj)).lower()


class Everything(models.Model):
    """Has a field of each kind; no rows are made of it."""

    char = models.CharField(max_length=9, null=True)
    text = models.TextField(null=True)
    slug = models.SlugField(null=True)
    url = models.URLField(null=True)
    email = models.EmailField(null=True)
    integer = models.IntegerField(null=True)
    big = models.BigIntegerField(null=True)
    boolean = models.BooleanField(null=True)
    float = models.FloatField(null=True)
    decimal = models.DecimalField(max_digits=9, decimal_places=3, null=True)
    date = models.DateField(null=True)
    datetime = models.DateTimeField(null=True)
    time = models.TimeField(null=True)
    duration = models.DurationField(null=True)
    uuid = models.UUIDField(null=True)
    json = models.JSONField(null=True)
    binary = models.BinaryField(null=True)
    ip = models.GenericIPAddressField(null=True)
    file = models.FileField(null=True)
    shouted = Shouted(max_length=9, null=True)
    whispered = Whispered(max_length=9, null=True)
    hidden = models.CharField(max_length=9, null=True, serialize=False)
    author = models.ForeignKey(Author, models.CASCADE, null=True)
    person = models.OneToOneField(Person, models.CASCADE, null=True, to_field="email")

    def __str__(self) -> str:
        return "everything"


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
        base_manager_name = "objects"

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
