"""manage.py pubsub_key: the key of users' tokens, as ejabberd needs it; or a new one."""

import io
import json

import pytest
from django.core.management import CommandError, call_command

from pubsub.credentials import signing_key


def printed(*arguments):
    out = io.StringIO()
    call_command("pubsub_key", *arguments, stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "EdDSA"])
def test_a_new_key_can_be_used_as_it_is_printed(settings, algorithm):
    settings.PUBSUB_JWT_KEY = printed("--new", algorithm).strip()
    settings.PUBSUB_JWT_KEY_FALLBACKS = ["an old one"]
    jwk = json.loads(printed())
    assert jwk == signing_key(settings.PUBSUB_JWT_KEY).jwk()
    assert jwk["alg"] == algorithm


def test_without_a_key_it_says_how_to_make_one(settings):
    settings.PUBSUB_JWT_KEY = ""
    with pytest.raises(CommandError, match="pubsub_key --new HS256"):
        printed()


def test_a_key_that_cannot_be_used_is_told(settings):
    settings.PUBSUB_JWT_KEY = "short"
    with pytest.raises(CommandError, match="no usable key"):
        printed()
