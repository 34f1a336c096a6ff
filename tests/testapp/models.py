"""The models of the tests."""

import uuid

from django.db import models


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
