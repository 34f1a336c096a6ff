"""XML that breaks parsers, sent raw by a visitor: it ends his own stream, and nobody else's."""

import http.client
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed

from tests.server.attacks.conftest import GUESTS, OUTSIDE, PUBSUB, SERVICE, refusal
from tests.visitors import BOSH, BoshVisitor, WebSocketStream, auth

CLIENT = 'xmlns="jabber:client"'
LAUGHS = (
    "<!DOCTYPE iq [<!ENTITY a '{}'>".format("ha" * 10)
    + "".join(f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 10}'>" for n in range(9))
    + "]>"
)
OUTSIDER = "<!DOCTYPE iq [<!ENTITY a SYSTEM 'file:///etc/hostname'>]>"


def ping(inside="", more=""):
    return f'<iq {CLIENT} type="get" id="1"{more}>{inside}<ping xmlns="urn:xmpp:ping"/></iq>'


#: What is no XML, or what XMPP forbids of it (RFC 6120 §11.1).
BROKEN = {
    "a document type": f"<!DOCTYPE iq>{ping()}",
    "an entity of one's own": f"<!DOCTYPE iq [<!ENTITY a 'b'>]>{ping('&a;')}",
    "an entity from a file": OUTSIDER + ping("&a;"),
    "billion laughs": LAUGHS + ping("&j;"),
    "an unknown entity": ping("&nbsp;"),
    "a character that is none": ping("&#0;"),
    "another one": ping("&#x8;"),
    "the last one": ping("&#xFFFF;"),
    "half of one": ping("&#xD800;"),
    "a NUL": ping("\0"),
    "a backspace": ping("\x08"),
    "an escape": ping(more=' x="\x1b"'),
    "U+FFFF": ping("\uffff"),
    "an unfinished tag": f"<iq {CLIENT} type='get' id='1'><ping xmlns='urn:xmpp:ping'",
    "the end of something else": f"<iq {CLIENT} type='get' id='1'></message>",
    "an attribute twice": ping(more=' id="2"'),
    "an unknown prefix": ping("<x:y/>"),
    "no XML": "GET / HTTP/1.1\r\n\r\n",
    "the end of the stream, and more": f"</stream:stream>{ping()}",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_what_is_no_xml_ends_the_stream_of_who_sends_it(visit, text):
    attacker = visit("guest" if len(text) % 2 else "user")  # of each about half
    attacker.send(text)
    said = attacker.rest()
    assert "type='result'" not in said
    assert "hostname" not in said
    assert "<close" in said or "<stream:error" in said


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"<iq \xc3\x28/>", b"\xed\xa0\x80", b"\xc0\xbc"])
def test_bytes_that_are_no_text_end_the_stream_of_who_sends_them(visit, raw):
    attacker = visit("guest")
    attacker.send_bytes(raw)
    assert "type='result'" not in attacker.rest()


@pytest.mark.parametrize(
    "text",
    [
        ping("<!-- comment -->"),
        ping("<?instruction?>"),
        ping("<![CDATA[</iq>]]>"),
        ping("]]&gt;"),
        ping(more=f" xmlns:x='urn:x' x:y='{'&amp;' * 1000}'"),
    ],
    ids=["a comment", "an instruction", "CDATA", "]]>", "many escapes"],
)
def test_what_is_xml_is_answered_or_ends_the_stream(attacker, text):
    attacker.send(text)
    with suppress(ConnectionClosed):
        assert attacker.next().get("id") == "1"


CREATE = f'<pubsub xmlns="{PUBSUB}"><create/></pubsub>'
TO = f'type="set" id="1" to="{SERVICE}"'
ELSEWHERE = {
    "of the service": f'<iq {CLIENT} {TO}><pubsub xmlns="urn:x"><create/></pubsub></iq>',
    "of servers": f'<iq xmlns="jabber:server" {TO}>{CREATE}</iq>',
    "by a prefix": f'<x:iq xmlns:x="jabber:client" {TO}>{CREATE}</x:iq>',
    "of none": f"<iq {TO}>{CREATE}</iq>",
    "of components": f"<handshake {CLIENT}>00</handshake>",
    "a second login": auth("django", "x"),
    "the end of another's session": '<resume xmlns="urn:xmpp:sm:3" h="1" previd="another"/>',
}


@pytest.mark.parametrize("stanza", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_stanza_of_a_wrong_namespace_does_nothing(attacker, stanza):
    attacker.send(stanza)
    attacker.send(ping())
    said = attacker.rest_until('type="result"', "type='result'")
    assert "<success" not in said
    assert "<resumed" not in said


@pytest.mark.parametrize("stanza", ["pubsub", "ping", "message", "presence", "answer"])
def test_elements_nested_beyond_measure_end_the_stream_of_who_sends_them(attacker, log, stanza):
    """Written again, in an answer, they would end ejabberd, which recurses on a thread's stack."""
    deep = "<a>" * 10_000 + "</a>" * 10_000
    attacker.send(
        {
            "pubsub": f'<iq {CLIENT} {TO}><pubsub xmlns="{PUBSUB}"><publish node="/n"><item>{deep}'
            "</item></publish></pubsub></iq>",
            "ping": ping(deep),
            "message": f'<message {CLIENT}><x xmlns="urn:x">{deep}</x></message>',
            "presence": f"<presence {CLIENT}>{deep}</presence>",
            "answer": f'<iq {CLIENT} type="error" id="1">{deep}</iq>',
        }[stanza]
    )
    assert "policy-violation" in attacker.rest()
    log.says("Refused", attacker.jid, "elements in elements")


def test_a_hundred_thousand_nested_elements_end_the_stream_of_who_sends_them(
    visit, site, bystander, log
):
    attacker = visit("guest")
    attacker.send(ping("<a>" * 100_000 + "</a>" * 100_000))
    site.publish(site.node, "while they are read")
    assert "while they are read" in bystander.hear()
    assert "policy-violation" in attacker.rest()
    log.says("Refused", attacker.jid, "elements in elements")


@pytest.mark.parametrize("stanza", ["auth", "open", "iq"])
def test_elements_nested_beyond_measure_before_a_login_harm_nobody(stack, stanza):
    deep = "<a>" * 10_000 + "</a>" * 10_000
    stream = WebSocketStream(stack.settings["PUBSUB_WEBSOCKET_URL"], GUESTS, OUTSIDE)
    framing = "urn:ietf:params:xml:ns:xmpp-framing"
    stream.send(
        {
            "auth": auth("guest").replace("</auth>", f"{deep}</auth>"),
            "open": f'<open xmlns="{framing}" to="{GUESTS}" version="1.0">{deep}</open>',
            "iq": ping(deep),
        }[stanza]
    )
    with suppress(ConnectionClosed):  # it may be closed already
        stream.send(f'<close xmlns="{framing}"/>')
        while True:
            assert "type='result'" not in stream.hear()
    stream.vanish()


@pytest.mark.parametrize("size", [100_000, 400_000])
def test_a_huge_attribute_harms_nobody(attacker, site, size):
    attacker.send(
        f'<iq {CLIENT} type="set" id="1" to="{SERVICE}"><pubsub xmlns="{PUBSUB}">'
        f'<subscribe node="{"x" * size}" jid="{attacker.jid}"/></pubsub></iq>'
    )
    assert refused_or_ended(attacker)


def test_ten_thousand_attributes_harm_nobody(attacker):
    attacker.send(ping(more="".join(f" a{n}='{n}'" for n in range(10_000))))
    attacker.send(ping())
    assert "'1'" in attacker.rest_until("type='result'")


def refused_or_ended(attacker):
    """Whether the answer to a request is an error, or the end of the stream."""
    try:
        answer = attacker.next()
    except ConnectionClosed:
        return True
    return "error" in answer.tag or refusal(answer) != ""


@pytest.mark.parametrize(
    "name", ["a document type", "billion laughs", "a NUL", "an unfinished tag"]
)
def test_what_is_no_xml_ends_the_session_of_a_bosh_request(stack, name):
    there = urlsplit(stack.settings["PUBSUB_BOSH_URL"])
    opening = f'<body xmlns="{BOSH}" rid="1" to="{GUESTS}" wait="1" hold="1" ver="1.6">'
    deep = "<a>" * 10_000 + "</a>" * 10_000
    for text in (
        BROKEN[name],
        f"{opening}{BROKEN[name]}</body>",
        f"{LAUGHS}{opening}&j;</body>",
        deep,
    ):
        connection = http.client.HTTPConnection(there.netloc, timeout=20)
        connection.request("POST", there.path, text.encode())
        answer = connection.getresponse()
        said = answer.read().decode()
        connection.close()
        assert answer.status in (400, 404) or "terminate" in said
        assert "sid=" not in said or "terminate" in said


def test_elements_nested_beyond_measure_in_a_bosh_request_harm_nobody(stack, site, log):
    deep = "<a>" * 10_000 + "</a>" * 10_000
    visitor = BoshVisitor(stack.settings, site.node, OUTSIDE)
    visitor.post(deep)  # no stanza at all
    visitor.post(ping(deep))
    visitor.vanish()
    log.says("Refused", visitor.jid, "elements in elements")


def test_a_bosh_session_of_somebody_else_is_not_to_be_had(stack, site):
    """Its `sid` is long and random, and its next request id has to be known, too."""
    visitor = BoshVisitor(stack.settings, site.node)
    there = urlsplit(stack.settings["PUBSUB_BOSH_URL"])
    for sid, rid in ((visitor.sid[:-1] + "x", visitor.next_rid), ("", 1), ("' or 1=1", 1)):
        connection = http.client.HTTPConnection(there.netloc, timeout=20)
        body = f'<body xmlns="{BOSH}" rid="{rid}" sid="{sid}"/>'
        connection.request("POST", there.path, body.encode())
        said = connection.getresponse().read().decode()
        connection.close()
        assert "terminate" in said
    assert len(visitor.sid) >= 20
    visitor.say_goodbye()
