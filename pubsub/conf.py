"""The only reader of ``django.conf.settings``.

Settings are typed properties of :data:`conf`, read at each access, so that ``override_settings``
works.  Each has a default that works with the files in ``deploy/``; ``checks.py`` judges them.
"""

from __future__ import annotations

from typing import Any, Literal

from django.conf import settings

#: How a node is created unless PUBSUB_NODE_DEFAULTS says otherwise (XEP-0060 §16.4.4).
NODE_DEFAULTS: dict[str, Any] = {
    "access_model": "open",
    "publish_model": "publishers",
    "persist_items": True,
    "max_items": 1000,
    # A full node would send a retract for each item that it drops: twice the traffic.  What
    # Django retracts is announced all the same.
    "notify_retract": False,
    # A page whose node goes would listen for ever to one that is made again under its name.
    "notify_delete": True,
    # Whoever subscribes gets the item that was changed last.  From it, and from the number of
    # items, a page that comes back sees that it has missed nothing, without fetching the node.
    "send_last_published_item": "on_sub",
}


class Settings:
    """The settings of the app, under the names that they have in Python."""

    @property
    def backend(self) -> str:
        """PUBSUB_BACKEND: dotted path of the class that sends items."""
        return str(_get("PUBSUB_BACKEND", "pubsub.backends.xmpp.XMPPBackend"))

    @property
    def relay_backend(self) -> str:
        """PUBSUB_RELAY_BACKEND: dotted path of the class that sends what is in the outbox."""
        return str(_get("PUBSUB_RELAY_BACKEND", "pubsub.backends.xmpp.XMPPBackend"))

    @property
    def jid(self) -> str:
        """XMPP_JID: bare JID of the publisher, the one owner of every node."""
        return str(_get("XMPP_JID", "django@localhost"))

    @property
    def password(self) -> str:
        """XMPP_PASSWORD: of XMPP_JID."""
        return str(_get("XMPP_PASSWORD", ""))

    @property
    def domain(self) -> str:
        """The domain of XMPP_JID."""
        return self.jid.rpartition("@")[2]

    @property
    def pubsub_host(self) -> str:
        """XMPP_PUBSUB_HOST: JID of the pubsub service."""
        return str(_get("XMPP_PUBSUB_HOST", f"pubsub.{self.domain}"))

    @property
    def host(self) -> str:
        """XMPP_HOST: name or address to connect to; the domain of XMPP_JID by default."""
        return str(_get("XMPP_HOST", self.domain))

    @property
    def port(self) -> int:
        """XMPP_PORT: TCP port to connect to."""
        return int(_get("XMPP_PORT", 5222))

    @property
    def tls(self) -> Literal["starttls", "direct", "off"]:
        """XMPP_TLS: starttls, direct (the default on port 5223), or off (loopback only)."""
        return _get("XMPP_TLS", "direct" if self.port == 5223 else "starttls")  # type: ignore[no-any-return]

    @property
    def ca_file(self) -> str | None:
        """XMPP_CA_FILE: PEM file of trusted authorities; the system's by default."""
        path = _get("XMPP_CA_FILE", None)
        return str(path) if path else None

    @property
    def timeout(self) -> float:
        """XMPP_TIMEOUT: seconds that a login, an answer, or the farewell at exit may take."""
        return float(_get("XMPP_TIMEOUT", 10))

    @property
    def queue_size(self) -> int:
        """PUBSUB_QUEUE_SIZE: how many items may wait for the server's acknowledgement."""
        return int(_get("PUBSUB_QUEUE_SIZE", 10_000))

    @property
    def connections(self) -> int:
        """XMPP_CONNECTIONS: over how many streams the nodes are spread."""
        return int(_get("XMPP_CONNECTIONS", 1))

    @property
    def node_defaults(self) -> dict[str, Any]:
        """PUBSUB_NODE_DEFAULTS: configuration of new nodes, laid over NODE_DEFAULTS."""
        return NODE_DEFAULTS | dict(_get("PUBSUB_NODE_DEFAULTS", {}))

    @property
    def bosh_url(self) -> str:
        """PUBSUB_BOSH_URL: where browsers find BOSH (XEP-0206); empty: nowhere."""
        return str(getattr(settings, "PUBSUB_BOSH_URL", "/http-bind") or "")

    @property
    def websocket_url(self) -> str:
        """PUBSUB_WEBSOCKET_URL: where browsers find WebSocket (RFC 7395); empty: nowhere."""
        return str(getattr(settings, "PUBSUB_WEBSOCKET_URL", "/ws") or "")

    @property
    def guest_domain(self) -> str:
        """PUBSUB_GUEST_DOMAIN: virtual host of visitors without an account."""
        return str(_get("PUBSUB_GUEST_DOMAIN", f"guests.{self.domain}"))

    @property
    def user_domain(self) -> str:
        """PUBSUB_USER_DOMAIN: virtual host of the site's users."""
        return str(_get("PUBSUB_USER_DOMAIN", f"users.{self.domain}"))

    @property
    def jwt_keys(self) -> list[str]:
        """PUBSUB_JWT_KEY and PUBSUB_JWT_KEY_FALLBACKS: what users' tokens are signed with.

        The first one is the present key, the others are those before it; empty: users get none.
        """
        key = _get("PUBSUB_JWT_KEY", "")
        fallbacks = self.jwt_key_fallbacks
        if not key:
            return []
        return [_text(key), *map(_text, fallbacks if isinstance(fallbacks, (list, tuple)) else [])]

    @property
    def jwt_key_fallbacks(self) -> Any:
        """PUBSUB_JWT_KEY_FALLBACKS as it is set, for the check of it."""
        return _get("PUBSUB_JWT_KEY_FALLBACKS", [])

    @property
    def token_lifetime(self) -> float:
        """PUBSUB_TOKEN_LIFETIME: seconds in which a token has to be used."""
        return float(_get("PUBSUB_TOKEN_LIFETIME", 60))

    @property
    def prebind_url(self) -> str:
        """PUBSUB_PREBIND_URL: where Django itself finds BOSH, to log in for a page.

        By default PUBSUB_BOSH_URL, if that is a whole address, and else the port of ejabberd's
        HTTP service at XMPP_HOST.
        """
        url = str(_get("PUBSUB_PREBIND_URL", ""))
        if not url and not self.bosh_url.startswith("/"):
            url = self.bosh_url
        host = f"[{self.host}]" if ":" in self.host else self.host
        return url or f"http://{host}:5280/http-bind"

    @property
    def trusted_origins(self) -> list[str]:
        """CSRF_TRUSTED_ORIGINS: where pages may come from besides the host that was asked."""
        return [str(origin) for origin in settings.CSRF_TRUSTED_ORIGINS]

    @property
    def csrf_header(self) -> str:
        """The HTTP header that CSRF_HEADER_NAME asks for, in which a page sends its token."""
        name = str(settings.CSRF_HEADER_NAME)
        return name.removeprefix("HTTP_").replace("_", "-")


def _get(name: str, default: Any) -> Any:
    """A setting, or its default where it is missing or None, as an unset variable makes it."""
    value = getattr(settings, name, None)
    return default if value is None else value


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


#: The settings, read at each access.
conf = Settings()
