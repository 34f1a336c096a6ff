"""The models of the tests."""

from django.db import models


class Author(models.Model):
    name = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.name


class Penname(Author):
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


class Timed(models.Model):
    """Has no rows: it is abstract."""

    at = models.DateTimeField()

    class Meta:
        abstract = True
