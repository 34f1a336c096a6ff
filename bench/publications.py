"""Found by django-pubsub, as admin.py is found by Django's admin."""

import pubsub
from bench.models import Registered

pubsub.register(Registered)
