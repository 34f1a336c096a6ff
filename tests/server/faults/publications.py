"""What the writers publish: a mirror of authors, and a log of tags."""

from django.conf import settings

from pubsub import Publication, pubsub
from tests.blog.models import Tag
from tests.testapp.models import Author


class Mirror(Publication):
    node = f"{settings.FAULTS_NODES}/authors"
    fields = ["name"]
    max_items = 10_000


class Log(Publication):
    node = f"{settings.FAULTS_NODES}/tags"
    fields = ["word"]
    item_id = None
    max_items = 10_000


pubsub.register(Author, Mirror)
pubsub.register(Tag, Log)
