"""Servers where passwords change and tokens end, and a page to log in from."""

import base64
import hashlib
import hmac
import json
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

from pubsub.devstack import Stack, files
from pubsub.devstack.stack import PUBLISHER

DIST = Path(__file__).parents[3] / "media" / "strophe" / "dist"
TOKEN_DOMAIN = "tokens.localhost"

PAGE = """<!DOCTYPE html>
<title>Logins</title>
<script type="application/json" id="pubsub-config">{config}</script>
<script src="pubsub.client.js"></script>
"""


class Logins(Stack):
    """A stack with a page, and one more virtual host, whose users have tokens (RFC 7519)."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, nginx=True, **options)
        self._key = secrets.token_bytes(32)

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
        self._add_host()

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
        claims = {"sub": f"{user}@{TOKEN_DOMAIN}", "exp": int(time.time() + seconds)}
        parts = [coded(json.dumps(part).encode()) for part in ({"alg": "HS256"}, claims)]
        signed = ".".join(parts)
        mark = hmac.digest(self._key, signed.encode(), hashlib.sha256)
        return f"{signed}.{coded(mark)}"

    # Private

    def _add_host(self) -> None:
        path = self.folder / "ejabberd.yml"
        config = json.loads(path.read_text(encoding="utf-8"))
        (included,) = config["include_config_file"].values()
        included["disallow"].append("hosts")
        config["hosts"] = ["localhost", "guests.localhost", "users.localhost", TOKEN_DOMAIN]
        key = {"kty": "oct", "k": coded(self._key)}
        files.write_private(self.folder / "token.key", json.dumps(key))
        config["host_config"] = {
            TOKEN_DOMAIN: {
                "auth_method": ["jwt"],
                "jwt_key": str(self.folder / "token.key"),
                "jwt_jid_field": "sub",
            }
        }
        files.write_private(path, json.dumps(config))


def coded(data: bytes) -> str:
    """Base64 as in tokens (RFC 4648 §5)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
