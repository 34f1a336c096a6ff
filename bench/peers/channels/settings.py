"""What the pages of Channels and channels_redis ask for.

https://channels.readthedocs.io/en/stable/topics/channel_layers.html knows one layer for production,
``RedisChannelLayer``.  https://github.com/django/channels_redis has a second one, by Redis's
pub/sub, which it calls a beta; both are measured.  That page finds a unix socket slightly faster
than a port; it leaves ``capacity`` at 100, and so do we.

redis-py 8 gives up after five seconds without an answer, and as long channels_redis 4.3 waits for a
message: one consumer after the other would end (https://github.com/django/channels_redis/issues/422).
"""

import os

SECRET_KEY = "the bench has no secrets"  # noqa: S105
DEBUG = False
ALLOWED_HOSTS = ["127.0.0.1"]
USE_TZ = True
INSTALLED_APPS = ["channels"]
ASGI_APPLICATION = "bench.peers.channels.asgi.application"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS = {"address": f"unix://{os.environ['BENCH_REDIS']}", "socket_timeout": None}
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": os.environ["BENCH_CHANNEL_LAYER"],
        "CONFIG": {"hosts": [REDIS]},
    }
}
