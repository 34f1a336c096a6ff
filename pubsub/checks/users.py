"""Checks of how the site's users log in: keys, tokens, and the addresses for their pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core import checks
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.urls import reverse

from pubsub.conf import conf
from pubsub.credentials import signing_key

#: Seconds that a token may be good.  ejabberd forgets after a day which ones were taken back.
LIFETIME = (5, 3600)


def check_users(**kwargs: Any) -> list[CheckMessage]:
    """Every problem of users' logins, each with an id and a hint."""
    return [*_check_keys(), *_check_lifetime(), *_check_prebind(), *_check_addresses()]


def _check_keys() -> Iterator[Error]:
    fallbacks: Any = conf.jwt_key_fallbacks
    is_list = isinstance(fallbacks, (list, tuple))
    if not is_list:
        yield Error(
            f"PUBSUB_JWT_KEY_FALLBACKS is a {type(fallbacks).__name__}, and no list of keys.",
            hint="Write a list of the keys before PUBSUB_JWT_KEY: [old_key].",
            id="pubsub.E033",
        )
    elif fallbacks and not conf.jwt_keys:
        yield Error(
            "PUBSUB_JWT_KEY_FALLBACKS is set, and PUBSUB_JWT_KEY is not.",
            hint="Set PUBSUB_JWT_KEY to the present key: `manage.py pubsub_key --new HS256` makes "
            "one.",
            id="pubsub.E033",
        )
    for number, text in enumerate(conf.jwt_keys):
        name = f"PUBSUB_JWT_KEY_FALLBACKS[{number - 1}]" if number else "PUBSUB_JWT_KEY"
        try:
            signing_key(text, name)
        except ImproperlyConfigured as error:
            yield Error(
                f"{error}.",
                hint="`manage.py pubsub_key --new HS256` makes a key; `manage.py pubsub_key` "
                "prints it as ejabberd needs it.",
                id="pubsub.E032",
            )


def _check_lifetime() -> Iterator[Error]:
    lowest, highest = LIFETIME
    try:
        value = conf.token_lifetime
    except (TypeError, ValueError, OverflowError) as error:
        problem = str(error)
    else:
        if lowest <= value <= highest:
            return
        problem = f"{value:g} is out of range"
    yield Error(
        f"PUBSUB_TOKEN_LIFETIME is no usable number of seconds: {problem}.",
        hint=f"Give a number from {lowest} to {highest}; a page fetches a token just before each "
        "login, so the default of 60 is plenty.",
        id="pubsub.E034",
    )


def _check_prebind() -> Iterator[Error]:
    if not conf.prebind_url.startswith(("http://", "https://")):
        yield Error(
            f"PUBSUB_PREBIND_URL = {conf.prebind_url!r} is no address that Django can use.",
            hint="Write the whole address of BOSH, such as 'https://example.org/http-bind'.",
            id="pubsub.E035",
        )


def _check_addresses() -> Iterator[CheckMessage]:
    """Addresses without a key; a key without addresses does no harm, and may be for prebind()."""
    if conf.jwt_keys:
        return
    try:
        reverse("pubsub:credentials")
    except Exception:  # noqa: BLE001, S110 (broken urls are told by Django's own check)
        pass  # nor where they are nowhere included
    else:
        yield checks.Warning(
            "pubsub.urls is included, but PUBSUB_JWT_KEY is not set: the pages of users log in "
            "as guests.",
            hint="Set it to what `manage.py pubsub_key --new HS256` prints.",
            id="pubsub.W010",
        )
