"""pubsub/wire/fanout.py: what the module that serves sessions is asked, and how it is read."""

import xml.etree.ElementTree as ET

import pytest

from pubsub.wire import fanout
from tests.unit.wire.nodes import result

STATUS = "{urn:django-pubsub:sessions:1}status"


def test_a_status_is_asked_for_at_the_modules_own_address_and_read():
    request = fanout.status("pubsub.example.org")
    iq = ET.fromstring(request.to_xml("id1"))
    assert iq.attrib == {"type": "get", "to": "sessions.pubsub.example.org", "id": "id1"}
    assert [child.tag for child in iq] == [STATUS]
    said = request.parse(
        result(
            '<status xmlns="urn:django-pubsub:sessions:1" version="1" nodes="3" '
            'subscriptions="1000"/>'
        )
    )
    assert said == fanout.FanoutStatus(version=1, nodes=3, subscriptions=1000)


@pytest.mark.parametrize(
    "body",
    [
        "",
        '<status xmlns="urn:django-pubsub:guard:1" version="1"/>',
        '<status xmlns="urn:django-pubsub:sessions:1"/>',
        '<status xmlns="urn:django-pubsub:sessions:1" version="-1" nodes="" subscriptions="²"/>',
    ],
)
def test_what_a_status_does_not_say_is_nought(body):
    assert fanout.parse_status(result(body)) == fanout.FanoutStatus(0, 0, 0)
