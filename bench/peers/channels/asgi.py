"""What daphne serves: https://channels.readthedocs.io/en/stable/deploying.html, without a login."""

from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application
from django.urls import path

# Before what may import models.
site = get_asgi_application()

from bench.peers.channels.consumer import Listener  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": site,
        "websocket": AllowedHostsOriginValidator(URLRouter([path("ws/", Listener.as_asgi())])),
    }
)
