"""Twins: two models with the same five fields, of which one is registered."""

from django.db import models


class Row(models.Model):
    """The five fields."""

    title = models.CharField(max_length=100)
    body = models.TextField()
    votes = models.IntegerField()
    public = models.BooleanField()
    written = models.DateTimeField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.title


class Plain(Row):
    """Nobody hears of its saves."""


class Registered(Row):
    """Its saves are published."""
