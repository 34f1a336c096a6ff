"""Servers where passwords change and tokens end, and a page to log in from."""

import json
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

import jwt

from pubsub.devstack import Stack, files
from pubsub.devstack.stack import PUBLISHER
from pubsub.wire import guard
from tests.visitors import WebSocketStream

DIST = Path(__file__).parents[3] / "media" / "strophe" / "dist"

PAGE = """<!DOCTYPE html>
<title>Logins</title>
<script type="application/json" id="pubsub-config">{config}</script>
<script src="pubsub.client.js"></script>
"""


class Logins(Stack):
    """A stack with a page from which users log in, by passwords or by tokens (RFC 7519)."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, nginx=True, **options)

    def prepare(self) -> None:
        super().prepare()
        shutil.copytree(DIST, self.static_root)
        config = {
            "service": self.settings["XMPP_PUBSUB_HOST"],
            "websocketUrl": self.settings["PUBSUB_WEBSOCKET_URL"],
            "boshUrl": self.settings["PUBSUB_BOSH_URL"],
        }
        page = PAGE.format(config=json.dumps(config))
        (self.static_root / "page.html").write_text(page, encoding="utf-8")

    @property
    def page(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self.ports.nginx}/static/page.html"

    def restart(self, accounts: dict[str, str]) -> None:
        """End every session, and let these accounts have these passwords."""
        self.accounts |= accounts
        known = {PUBLISHER: self.settings["XMPP_PASSWORD"], **self.accounts}
        files.write_private(self.folder / "accounts", files.erlang_accounts(known))
        self.ejabberd.kill()
        self.ejabberd.start()

    def token(self, user: str, seconds: float) -> str:
        """What lets a user in for so many seconds."""
        now = time.time()
        claims = {"sub": f"{user}@users.localhost", "iat": now, "exp": int(now + seconds)}
        return jwt.encode(claims, self.settings["PUBSUB_JWT_KEY"])

    def end_sessions(self, user: str) -> None:
        """End all of a user's sessions, as when he logs out, and refuse his tokens."""
        url = f"ws://127.0.0.1:{self.ports.http}/ws"
        publisher = WebSocketStream(url, "localhost")
        publisher.log_in("django", self.settings["XMPP_PASSWORD"], secrets.token_hex(8))
        request = guard.end_sessions("users.localhost", user, time.time()).to_xml("end")
        answer = publisher.request(request.replace("<iq ", '<iq xmlns="jabber:client" '))
        publisher.vanish()
        assert answer.get("type") == "result"
