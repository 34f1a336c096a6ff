"""Visitors as the server sees them: a browser's stream over BOSH, driven by hand.

What comes and was not asked for is kept in ``heard``.
"""

from __future__ import annotations

import secrets
from typing import Any
from xml.sax.saxutils import quoteattr

from pubsub.conf import conf
from pubsub.exceptions import AuthenticationError, StreamError, StreamLost
from pubsub.wire.answers import NS_PUBSUB, parse_error
from pubsub.wire.bosh import open_bosh

#: What to do where nobody gets as far as to be turned away.
WAY_IN = (
    "Set PUBSUB_PREBIND_URL to where ejabberd itself serves BOSH (ejabberd.yml, `listen: module: "
    "ejabberd_http`, `request_handlers: /http-bind: mod_bosh`)."
)


class Visitor:
    """Somebody who is logged in; a context manager.

    :param url: where BOSH is.
    :param domain: the virtual host.
    :param ca_file: PEM file of trusted authorities; None trusts the system's.
    :raises StreamError: when he does not get in within XMPP_TIMEOUT.
    """

    def __init__(
        self, url: str, domain: str, name: str, password: str, *, ca_file: str | None
    ) -> None:
        self._domain = domain
        self._session = open_bosh(
            url, domain, name, password, ca_file=ca_file, timeout=conf.timeout
        )
        self.jid = self._session.jid
        #: Stanzas, oldest first.
        self.heard: list[Any] = []

    def __enter__(self) -> Visitor:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def bare_jid(self) -> str:
        """His JID without the resource."""
        return self.jid.partition("/")[0]

    def close(self) -> None:
        """Leave, and let the server know."""
        self._session.close()

    def request(self, type: str, to: str, child: str, *, before: str = "") -> str:
        """Ask something; the condition under which it was refused, or nothing.

        :param before: what is sent ahead of it.
        :raises StreamError: when no answer comes in time.
        """
        id = secrets.token_hex(8)
        answer = self._session.request(
            f'{before}<iq xmlns="jabber:client" type="{type}" to={quoteattr(to)} id="{id}">'
            f"{child}</iq>"
        )
        while answer.getAttr("id") != id:
            self.heard.append(answer)
            answer = self._session.receive()
        self.heard += self._session.heard()
        return "" if answer.getAttr("type") == "result" else parse_error(answer).condition

    def ask(self, child: str, namespace: str = NS_PUBSUB, type: str = "set") -> str:
        """Ask something of the pubsub service (XEP-0060); see :meth:`request`."""
        return self.request(type, conf.pubsub_host, f'<pubsub xmlns="{namespace}">{child}</pubsub>')

    def subscribe(self, node: str) -> str:
        """Subscribe himself to a node; see :meth:`request`."""
        return self.ask(f"<subscribe node={quoteattr(node)} jid={quoteattr(self.jid)}/>")

    def say(self, *stanzas: str) -> None:
        """Send something, and wait until the server is done with it.

        What others had sent to him before has been heard then, too.
        """
        ping = '<ping xmlns="urn:xmpp:ping"/>'
        self.request("get", self._domain, ping, before="".join(stanzas))

    def hear(self) -> None:
        """Wait for what comes next.

        :raises StreamError: when nothing does in time.
        """
        self.heard.append(self._session.receive())
        self.heard += self._session.heard()


def is_turned_away(error: StreamError) -> bool:
    """Whether it is the server that does not let somebody in, and not the way to it."""
    refused = "it refused the session" in error.reason
    return refused or isinstance(error, (AuthenticationError, StreamLost))
