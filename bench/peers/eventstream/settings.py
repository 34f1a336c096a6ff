"""What django-eventstream's README asks for, and nothing else.

Its section "Multiple instances and scaling" (https://github.com/fanout/django-eventstream) wants
``EVENTSTREAM_REDIS``, so that ``send_event`` reaches the clients of any process.  redis-py gets
that as it is: a unix socket is a little quicker than a port.  There is no storage, which is the
default ("Event storage"): with one, each event costs an INSERT, and who has missed some a SELECT.
"""

import os

SECRET_KEY = "the bench has no secrets"  # noqa: S105
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
INSTALLED_APPS = ["django_eventstream"]
ROOT_URLCONF = "bench.peers.eventstream.urls"
ASGI_APPLICATION = "bench.peers.eventstream.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

EVENTSTREAM_REDIS = {"unix_socket_path": os.environ["BENCH_REDIS"]}
