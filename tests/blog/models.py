"""The models that docs/publications.rst shows; a test compares the two."""

from django.db import models

from pubsub import PublishedManager


class Blog(models.Model):
    name = models.CharField(max_length=100)

    def __str__(self):
        return self.name

    def natural_key(self):
        return (self.name,)


class Tag(models.Model):
    word = models.CharField(max_length=50)

    def __str__(self):
        return self.word


class Post(models.Model):
    blog = models.ForeignKey(Blog, models.CASCADE)
    slug = models.SlugField(unique=True)
    title = models.CharField(max_length=200)
    body = models.TextField(blank=True)
    public = models.BooleanField(default=True)
    tags = models.ManyToManyField(Tag)

    objects = PublishedManager()

    def __str__(self):
        return self.title
