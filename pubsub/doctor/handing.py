"""The view that hands out credentials, as it is reached from outside."""

from __future__ import annotations

from collections.abc import Iterator

from django.urls import NoReverseMatch, reverse

from pubsub.conf import conf
from pubsub.doctor.findings import Finding, Skipped, failure, fine
from pubsub.doctor.front import STRANGER, away
from pubsub.doctor.site import Site
from pubsub.doctor.web import Refused, ask

PASSING = (
    "Let nginx pass on what a browser says of itself (Origin, Sec-Fetch-Site), and change no "
    "headers of the answer, as deploy/nginx.conf does."
)


def examine_credentials(site: Site) -> Iterator[Finding]:
    """Whether it is reached, gives nothing to a stranger, and lets nobody keep its answers."""
    try:
        path = reverse("pubsub:credentials")
    except NoReverseMatch as error:
        raise Skipped("pubsub.urls is not included: no page asks for credentials") from error
    url = site.front(path, "The view of credentials")
    foreign = {"Origin": STRANGER, "Sec-Fetch-Site": "cross-site"}
    try:
        answer = ask(url, timeout=conf.timeout)
        elsewhere = ask(url, timeout=conf.timeout, headers=foreign)
    except OSError as error:
        yield away(url, error, "No user of the site gets in.")
        return
    if answer.status == 200:
        yield failure(
            f"{url} gives credentials to somebody who is not logged in",
            "Whoever asks is a user of the site.",
            "See which middleware or proxy logs visitors in, or answers in Django's place.",
        )
    elif answer.status != 401:
        yield failure(
            f"{url} answers with {Refused(answer.status, answer.body)} where 401 was due",
            "No user of the site gets in.",
            "See that --url is right, that nginx passes that path on to Django, and what Django's "
            "log says.",
        )
    elif "no-store" not in answer.header("Cache-Control"):
        yield failure(
            f"{url} answers with Cache-Control: {answer.header('Cache-Control')!r}",
            "Somebody between may give one user's credentials to another.",
            PASSING,
        )
    elif elsewhere.status != 403:
        yield failure(
            f"{url} answers a page of {STRANGER} with status {elsewhere.status} where 403 was due",
            "Any site could ask for the credentials of its visitors.",
            PASSING,
        )
    else:
        yield fine(f"{url} gives none to strangers, nor to pages of other sites")
