"""pubsub/wire/guard.py: what the guard is asked, and what is read from its answers."""

import math
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pubsub.wire import guard
from tests.unit.wire.nodes import result
from tests.unit.wire.test_stanzas import names

GUARD = "{urn:django-pubsub:guard:1}"


def build(request):
    return ET.fromstring(request.to_xml("id1"))


@given(user=names, session=st.none() | names)
def test_any_user_and_any_session_can_be_ended(user, session):
    iq = build(guard.end_sessions("users.example.org", user, 1795665838.1234567, session))
    assert iq.attrib == {"type": "set", "to": "users.example.org", "id": "id1"}
    (end,) = iq
    assert end.tag == f"{GUARD}end"
    wanted = {"user": user, "before": "1795665838.123457"}
    assert end.attrib == wanted | ({} if session is None else {"session": session})


def test_an_end_may_be_asked_for_again_when_its_stream_was_lost():
    assert guard.end_sessions("users.example.org", "5", 0.0).endures


def test_a_status_is_read():
    request = guard.status("users.example.org")
    assert build(request).find(f"{GUARD}status") is not None
    said = request.parse(
        result(
            '<status xmlns="urn:django-pubsub:guard:1" version="1" time="1795665838.938425" '
            'db="mnesia" dead="3"/>'
        )
    )
    assert said == guard.GuardStatus(version=1, time=1795665838.938425, db="mnesia", dead=3)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "<status/>",
        '<status xmlns="urn:django-pubsub:guard:1"/>',
        '<status xmlns="urn:django-pubsub:guard:1" version="-1" time="soon" dead="many"/>',
        '<status xmlns="urn:django-pubsub:guard:1" version="" time="inf" db="" dead="²"/>',
    ],
)
def test_what_a_status_does_not_say_is_not_known(body):
    said = guard.parse_status(result(body))
    assert (said.version, said.db, said.dead) == (0, "", None)
    assert math.isnan(said.time)
