"""The pure parts of the doctor: certificates, addresses, what answers say."""

from datetime import datetime, timezone

import pytest
from django.test import override_settings

from pubsub.doctor.certificates import read_certificate
from pubsub.doctor.findings import Skipped
from pubsub.doctor.site import Site, is_this_machine
from pubsub.doctor.web import Refused, origin_of, parts

PEER = {
    "issuer": ((("organizationName", "An authority"),), (("commonName", "Root 1"),)),
    "subject": ((("commonName", "ignored.example"),),),
    "subjectAltName": (("DNS", "example.org"), ("IP Address", "127.0.0.1")),
    "notAfter": "Nov 27 12:00:00 2026 GMT",
}


def test_a_certificate_names_whom_it_is_for_who_signed_it_and_when_it_ends():
    certificate = read_certificate(PEER)
    assert certificate.names == ("example.org", "127.0.0.1")
    assert certificate.issuer == "An authority, Root 1"
    assert certificate.ends == datetime(2026, 11, 27, 12, tzinfo=timezone.utc)


@pytest.mark.parametrize(("day", "left"), [(25, 2), (27, 0), (28, -1)])
def test_days_are_counted_until_a_certificate_ends(day, left):
    now = datetime(2026, 11, day, 11, tzinfo=timezone.utc)
    assert read_certificate(PEER).days_left(now) == left


@pytest.mark.parametrize(
    "url", ["example.org", "ftp://example.org/", "https://", "https://x:y/", "/ws", ""]
)
def test_what_is_no_address_is_quoted(url):
    with pytest.raises(ValueError, match="is no address") as caught:
        parts(url)
    assert repr(url) in str(caught.value)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://example.org/ws", "https://example.org"),
        ("wss://example.org:8443/ws?x=1", "https://example.org:8443"),
        ("ws://me@127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_the_origin_of_pages_is_their_scheme_host_and_port(url, origin):
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    ("host", "is_here"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("example.org", False)],
)
def test_this_machine_is_known_by_its_loopback(host, is_here):
    assert is_this_machine(host) is is_here


def test_a_path_becomes_an_address_by_that_of_the_site():
    site = Site("https://example.org/")
    assert site.front("/ws", "PUBSUB_WEBSOCKET_URL") == "https://example.org/ws"
    assert site.front("wss://x.example/ws", "PUBSUB_WEBSOCKET_URL") == "wss://x.example/ws"


@pytest.mark.parametrize(("address", "words"), [("/ws", "--url"), ("", "is empty")])
def test_what_has_no_address_is_skipped_and_says_why(address, words):
    with pytest.raises(Skipped, match=words):
        Site().front(address, "PUBSUB_WEBSOCKET_URL")


@override_settings(PUBSUB_BACKEND="pubsub.backends.dummy.DummyBackend")
def test_a_backend_without_a_server_cannot_be_examined():
    with pytest.raises(Skipped, match=r"'pubsub\.backends\.dummy.* talks to no server"):
        _ = Site().server


def test_an_answer_of_http_is_quoted_by_its_beginning():
    assert str(Refused(404, "<h1>\n Not   found</h1>")) == "status 404 (<h1> Not found</h1>)"
    assert str(Refused(502, "")) == "status 502"
