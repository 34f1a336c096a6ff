"""Visitors as the server sees them: a browser's stream over BOSH (XEP-0124, XEP-0206), by hand.

One request is underway at a time, so what comes is heard in order.  Everything that was not asked
for is kept in ``heard``.
"""

from __future__ import annotations

import base64
import http.client
import secrets
import time
import xml.etree.ElementTree as ET
from contextlib import suppress
from typing import Any
from xml.sax.saxutils import quoteattr

from pubsub.doctor.web import connection, parts

NS_BOSH = "http://jabber.org/protocol/httpbind"
NS_SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
NS_BIND = "urn:ietf:params:xml:ns:xmpp-bind"
NS_STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"
XBOSH = 'xmlns:xmpp="urn:xmpp:xbosh"'


class Turned(Exception):
    """The server does not let a visitor in, or puts him out.

    :param condition: of SASL (RFC 6120 §6.5), of the session (XEP-0124 §17.2), or a status of HTTP.
    """

    def __init__(self, condition: str) -> None:
        super().__init__(condition)
        self.condition = condition


class Visitor:
    """Somebody who is logged in; a context manager.

    :param url: where BOSH is.
    :param domain: the virtual host.
    :param timeout: seconds that each step may take.
    :raises Turned: when he does not get in.
    :raises OSError: when nobody answers.
    """

    def __init__(self, url: str, domain: str, name: str, password: str, *, timeout: float) -> None:
        self._path = parts(url).path
        self._connection = connection(url, timeout + 1)
        self._timeout = timeout
        self._domain = domain
        self._sid = ""
        self._rid = secrets.randbelow(2**31)
        self.heard: list[ET.Element] = []
        try:
            self.jid = self._log_in(name, password)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave, and let the server know."""
        with suppress(OSError, Turned):
            if self._sid:
                self._post(attributes='type="terminate"')
        self._connection.close()

    def request(self, type: str, to: str, child: str, *, before: str = "") -> ET.Element:
        """The answer to an IQ.

        :param before: what is sent ahead of it.
        :raises OSError: when none comes in time.
        """
        id = secrets.token_hex(8)
        end = time.monotonic() + self._timeout
        stanza = (
            f'<iq xmlns="jabber:client" type="{type}" to={quoteattr(to)} id="{id}">{child}</iq>'
        )
        body = self._post(before + stanza)
        while True:
            for element in self._keep(body):
                if element.tag == "{jabber:client}iq" and element.get("id") == id:
                    self.heard.remove(element)
                    return element
            if time.monotonic() > end:
                raise OSError(f"no answer within {self._timeout:g} s")
            body = self._post()

    def say(self, *stanzas: str) -> None:
        """Send something, and wait until the server is done with it.

        What others had sent to him before has been heard then, too.
        """
        ping = '<ping xmlns="urn:xmpp:ping"/>'
        self.request("get", self._domain, ping, before="".join(stanzas))

    def hear(self) -> None:
        """Wait for what comes next, for some seconds at most."""
        self._keep(self._post())

    # Private

    def _log_in(self, name: str, password: str) -> str:
        to = f"to={quoteattr(self._domain)}"
        # Not longer, so that an answer always comes in time, an empty one at least.
        wait = max(1, int(self._timeout / 2))
        start = self._post(
            attributes=f'{to} wait="{wait}" hold="1" ver="1.6" {XBOSH} xmpp:version="1.0"'
        )
        self._sid = start.get("sid", "")
        if not self._sid:
            raise Turned("no session")
        self._until(start, "{http://etherx.jabber.org/streams}features")
        secret = base64.b64encode(f"\0{name}\0{password}".encode()).decode()
        auth = f'<auth xmlns="{NS_SASL}" mechanism="PLAIN">{secret}</auth>'
        answer = self._until(self._post(auth), f"{{{NS_SASL}}}success", f"{{{NS_SASL}}}failure")
        if answer.tag == f"{{{NS_SASL}}}failure":
            conditions = [child.tag.rpartition("}")[2] for child in answer]
            raise Turned(next((c for c in conditions if c != "text"), "not-authorized"))
        restart = self._post(attributes=f'{to} {XBOSH} xmpp:restart="true"')
        self._until(restart, "{http://etherx.jabber.org/streams}features")
        bound = self.request("set", self._domain, f'<bind xmlns="{NS_BIND}"/>')
        jid = bound.findtext(f".//{{{NS_BIND}}}jid")
        if not jid:
            raise Turned(condition_of(bound) or "no resource")
        return jid

    def _until(self, body: ET.Element, *tags: str) -> ET.Element:
        end = time.monotonic() + self._timeout
        while True:
            for element in body:
                if element.tag in tags:
                    return element
            if time.monotonic() > end:
                raise OSError(f"no answer within {self._timeout:g} s")
            body = self._post()

    def _keep(self, body: ET.Element) -> list[ET.Element]:
        found = list(body)
        self.heard += found
        return found

    def _post(self, child: str = "", *, attributes: str = "") -> ET.Element:
        self._rid += 1
        sid = f"sid={quoteattr(self._sid)}" if self._sid else ""
        text = f'<body xmlns="{NS_BOSH}" rid="{self._rid}" {sid} {attributes}>{child}</body>'
        headers = {"Content-Type": "text/xml; charset=utf-8"}
        try:
            self._connection.request("POST", self._path, text.encode(), headers)
            response = self._connection.getresponse()
            answer = response.read()
        except http.client.HTTPException as error:
            raise OSError(f"no answer of HTTP: {error!r}") from error
        if response.status != 200:
            raise Turned(f"status {response.status}")
        try:
            body = ET.fromstring(answer)  # noqa: S314 (of the site's own server)
        except ET.ParseError as error:
            raise OSError(f"what answers there is no BOSH: {error}") from error
        if body.get("type") == "terminate":
            self._sid = ""
            if "terminate" not in attributes:
                raise Turned(body.get("condition") or "the session was ended")
        return body


def condition_of(answer: ET.Element) -> str:
    """The condition of an error; empty where a stanza is none."""
    error: Any = answer.find("{jabber:client}error")
    if answer.get("type") != "error" or error is None:
        return ""
    names = [child.tag for child in error if child.tag.startswith(f"{{{NS_STANZAS}}}")]
    return next((n.rpartition("}")[2] for n in names if not n.endswith("text")), "error")
