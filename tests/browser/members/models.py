from django.contrib.auth.models import User
from django.db import models


class Note(models.Model):
    """Only its owner may read it."""

    owner = models.ForeignKey(User, models.CASCADE)
    text = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.text

    @property
    def node(self) -> str:
        return f"/members/Note/{self.owner_id}"


class Notice(models.Model):
    """Who has the permission to view notices may read it."""

    text = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.text


class Remark(Notice):
    """Who may read it may publish beside it."""
