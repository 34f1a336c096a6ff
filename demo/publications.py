"""Found by django-pubsub, as admin.py is found by Django's admin."""

from demo.models import Status
from pubsub import pubsub

pubsub.register(Status)
