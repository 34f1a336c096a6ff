"""A stack that is broken on purpose, in many ways that have nothing to do with each other."""

import json
import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import trustme
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from pubsub.devstack import Stack, files

urlpatterns = [path("pubsub/", include("pubsub.urls"))]

#: Hosts whose certificate has ended, and that have none.
EXPIRED, WITHOUT = "expired.localhost", "other.localhost"

#: Each part of deploy/ejabberd.yml that is replaced.
EJABBERD = {
    "access_createnode: publisher": "access_createnode: all",
    "  - users.localhost ": f"  - {EXPIRED}\n  - {WITHOUT}\n  - users.localhost ",
    "  - 'CERTIFICATE'": "  - 'CERTIFICATE'\n  - expired.pem",
    "[DIGEST-MD5, X-OAUTH2]": "[DIGEST-MD5, X-OAUTH2, SCRAM-SHA-1]",
}

#: And of deploy/nginx.conf: browsers get to neither way in, but to all the rest of ejabberd.
NGINX = {
    "location = /http-bind {": "location = /elsewhere {",
    "location = /ws {": "location /admin/ {",
    "fastcgi_pass ": "return 404; fastcgi_pass ",
}


class Ailing(Stack):
    """A stack with nginx, whose files are changed before it starts."""

    def prepare(self) -> None:
        super().prepare()
        authority = trustme.CA()
        past = datetime.now(timezone.utc) - timedelta(days=3)
        certificate = authority.issue_cert(EXPIRED, not_after=past)
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self.folder / "expired.pem"))
        authority.cert_pem.write_to_path(str(self.expired_authority))
        rendered = self.folder / "ejabberd.yml"
        config = json.loads(rendered.read_text(encoding="utf-8"))
        ((shipped, how),) = config["include_config_file"].items()
        text = without_guard(replaced(Path(shipped).read_text(encoding="utf-8"), EJABBERD))
        (self.folder / "changed.yml").write_text(text, encoding="utf-8")
        config["include_config_file"] = {str(self.folder / "changed.yml"): how}
        files.write_private(rendered, json.dumps(config))
        site = self.folder / "site.conf"
        site.write_text(replaced(site.read_text(encoding="utf-8"), NGINX), encoding="utf-8")

    @property
    def expired_authority(self) -> Path:
        """The PEM file of who has signed the certificate that has ended."""
        return self.folder / "expired-ca.pem"


def urls_that_answer(status: int, **headers: str) -> type:
    """What ROOT_URLCONF may name: credentials are asked for in vain, or gotten by everybody."""

    def credentials(request: HttpRequest) -> HttpResponse:
        return HttpResponse("{}", status=status, headers=headers)

    handing = ([path("credentials/", credentials, name="credentials")], "pubsub")
    return type("Urls", (), {"urlpatterns": [path("pubsub/", include(handing))]})


def replaced(text: str, parts: dict[str, str]) -> str:
    """A text with some of its parts replaced, each of which must be there."""
    for part, other in parts.items():
        assert part in text, part
        text = text.replace(part, other)
    return text


def without_guard(text: str) -> str:
    """ejabberd's configuration without the guard: its name, and all that is indented below."""
    text = re.sub(r"^( +)mod_pubsub_guard:.*\n(?:\1 .*\n|\n)*", "", text, flags=re.M)
    return re.sub(r"^( +)modules:\n(?!\1 )", r"\1modules: {}\n", text, flags=re.M)
