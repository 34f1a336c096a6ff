"""The tokens of the site's users (RFC 7519): ours are taken at their host, and no forged ones.

They are made out to users who cannot be: no primary key has such a JID.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from pubsub.conf import conf
from pubsub.credentials import new_key, signing_key
from pubsub.doctor.findings import Finding, Skipped, failure, fine, warning
from pubsub.doctor.site import Site
from pubsub.doctor.visitors import WAY_IN, Visitor, is_turned_away
from pubsub.exceptions import AuthenticationError, StreamError

#: Of a token that is good, in seconds: for as long as this takes.
LIFETIME = 60

#: How far in the past an expired one has ended, in seconds: further than clocks differ.
AGO = 3600


def examine_tokens(site: Site) -> Iterator[Finding]:
    """Whether ejabberd has the key that Django signs with."""
    try:
        number, visitor = _log_in()
    except StreamError as error:
        yield _no_way_in(error)
        return
    visitor.close()
    if number == 0:
        yield fine(f"a token of Django's lets {visitor.bare_jid!r} in")
        return
    yield warning(
        f"ejabberd has the key of PUBSUB_JWT_KEY_FALLBACKS[{number - 1}], not that of "
        "PUBSUB_JWT_KEY",
        "Each user's page is refused first, and gets in by its next attempt.",
        _give_key(),
    )


def examine_forgery(site: Site) -> Iterator[Finding]:
    """Whether nobody gets in by a token that he has made, kept, or found."""
    number, visitor = _log_in()
    visitor.close()
    nobody, refused = _nobody(), 0
    # By the key that ejabberd has: or all would be refused for that alone.
    for what, domain, name, token, remedy in _forged(_keys()[number], nobody):
        try:
            _enter(domain, name, token).close()
        except StreamError as error:
            if not is_turned_away(error):
                raise
            refused += 1
            # Or this machine would be taken for one that guesses (mod_fail2ban).
            user().close()
            continue
        yield failure(
            f"{what} lets {f'{name}@{domain}'!r} in",
            "Somebody else reads what is private, and publishes where that user may.",
            remedy,
        )
    yield fine(f"{refused} forged tokens are refused")


def user() -> Visitor:
    """A user who cannot be, logged in by a good token; to be closed.

    :raises StreamError: when he does not get in.
    """
    return _log_in()[1]


# Private


def _keys() -> list[Any]:
    if not conf.jwt_keys:
        raise Skipped("PUBSUB_JWT_KEY is not set: no user of the site logs in by a token")
    try:
        return [signing_key(text) for text in conf.jwt_keys]
    except ImproperlyConfigured as error:
        raise Skipped(f"{error} (see 'checks')") from error


def _log_in() -> tuple[int, Visitor]:
    """Somebody who is logged in by the first key that is taken, and its number."""
    keys, nobody = _keys(), _nobody()
    for number, key in enumerate(keys):
        try:
            return number, _enter(conf.user_domain, nobody, _token(key, nobody))
        except AuthenticationError:
            if number + 1 == len(keys):
                raise
    raise Skipped("there is no key")


def _no_way_in(error: StreamError) -> Finding:
    if isinstance(error, AuthenticationError):
        return failure(
            f"a token that is signed with PUBSUB_JWT_KEY is refused: {error.reason}",
            "No user of the site gets in: ejabberd has another key than Django.",
            _give_key(),
        )
    if not is_turned_away(error):
        return failure(f"{conf.prebind_url}: {error.reason}", "No user can be tried.", WAY_IN)
    return failure(
        f"{conf.prebind_url} turns a user of {conf.user_domain!r} away: {error.reason}",
        "No user of the site gets in.",
        f"In ejabberd.yml, `hosts:` must list {conf.user_domain!r} (PUBSUB_USER_DOMAIN), and "
        "`host_config:` for it say `auth_method: [jwt, internal]`, `jwt_key:` and "
        "`jwt_jid_field: sub`.",
    )


def _give_key() -> str:
    return (
        "Write what `manage.py pubsub_key` prints into the file that ejabberd.yml names as "
        f"`jwt_key:` under {conf.user_domain!r}, and run `ejabberdctl reload_config` or restart it."
    )


def _nobody() -> str:
    """The local part of a JID that no user has: encoded keys hold no hyphen."""
    return f"_pubsub-doctor-{secrets.token_hex(8)}"


def _enter(domain: str, name: str, token: str) -> Visitor:
    return Visitor(conf.prebind_url, domain, name, token, ca_file=conf.ca_file)


def _claims(name: str, **others: Any) -> dict[str, Any]:
    now = time.time()
    claims = {"sub": f"{name}@{conf.user_domain}", "iat": now, "exp": int(now + LIFETIME)}
    return {**claims, "jti": secrets.token_hex(16), **others}


def _token(key: Any, name: str, **others: Any) -> str:
    claims = {k: v for k, v in _claims(name, **others).items() if v is not None}
    return str(key.sign(claims))


def _unsigned(name: str) -> str:
    parts = [{"alg": "none", "typ": "JWT"}, _claims(name)]
    written = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
    return ".".join([*(part.decode() for part in written), ""])


def _forged(key: Any, nobody: str) -> Iterator[tuple[str, str, str, str, str]]:
    """Tokens that are good for nothing: what it is, where it is tried, by whom, and what to do."""
    users = conf.user_domain
    update = (
        "Update ejabberd, and see that `auth_method:` of that host lists jwt and internal only."
    )
    stranger = signing_key(new_key(key.algorithm))
    yield "a token of another key", users, nobody, _token(stranger, nobody), update
    yield "a token without a signature (alg: none)", users, nobody, _unsigned(nobody), update
    past = {"iat": time.time() - AGO - LIFETIME, "exp": int(time.time() - AGO)}
    yield "an expired token", users, nobody, _token(key, nobody, **past), update
    yield "a token without an end", users, nobody, _token(key, nobody, exp=None), update
    field = f"In ejabberd.yml, under {users!r}: `jwt_jid_field: sub`."
    yield "another user's token", users, nobody, _token(key, _nobody()), field
    publisher = conf.jid.rpartition("@")[0]
    foreign = _token(key, publisher, sub=conf.jid)
    yield "a token made out to the publisher", users, publisher, foreign, field
    apart = f"In ejabberd.yml, `auth_method:` of {conf.domain!r} must not list jwt."
    yield "a token made out to the publisher", conf.domain, publisher, foreign, apart
