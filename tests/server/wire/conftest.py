"""Accounts, connections and faults for the tests of ``pubsub.wire`` against a real ejabberd."""

import dataclasses
import ssl
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import trustme

from pubsub.devstack import Stack
from pubsub.wire.account import Account
from pubsub.wire.connection import Connection
from pubsub.wire.session import Session, open_session
from tests.proxy import Proxy


@pytest.fixture
def account(stack: Stack) -> Account:
    """The publisher, at the shared server, by STARTTLS."""
    return publisher(stack)


def publisher(stack: Stack) -> Account:
    """Return the publisher's account at a stack."""
    return Account(
        jid=stack.settings["XMPP_JID"],
        password=stack.settings["XMPP_PASSWORD"],
        host=stack.settings["XMPP_HOST"],
        port=stack.settings["XMPP_PORT"],
        ca_file=stack.settings["XMPP_CA_FILE"],
    )


@pytest.fixture
def service(stack: Stack) -> str:
    """The JID of the pubsub service."""
    return str(stack.settings["XMPP_PUBSUB_HOST"])


@pytest.fixture
def node() -> str:
    """The name of a node that no other test uses."""
    return f"/wire/{uuid.uuid4().hex}"


@pytest.fixture
def login() -> Iterator[Callable[..., Session]]:
    """``open_session`` with changes to an account; what it opens is closed after the test."""
    with ExitStack() as opened:

        def login(account: Account, **changes: Any) -> Session:
            session = open_session(dataclasses.replace(account, **changes))
            opened.callback(session.abandon)
            return session

        yield login


@pytest.fixture
def connect() -> Iterator[Callable[..., Connection]]:
    """A function that makes a Connection, with changes to an account, closed after the test."""
    with ExitStack() as opened:

        def connect(
            account: Account,
            *,
            queue_size: int = 10_000,
            ping_after: float = 30.0,
            answer_within: float | None = None,
            keeps: bool = True,
            **changes: Any,
        ) -> Connection:
            connection = Connection(
                dataclasses.replace(account, **changes),
                queue_size=queue_size,
                ping_after=ping_after,
                answer_within=answer_within,
                keeps=keeps,
            )
            opened.callback(connection.close, 0.2)
            return connection

        yield connect


@pytest.fixture
def proxy(stack: Stack) -> Iterator[Callable[..., Proxy]]:
    """A function that puts a proxy in front of the shared server's STARTTLS port.

    It sees TLS go by, and nothing of what is said inside.
    """
    with ExitStack() as running:
        yield lambda **options: running.enter_context(Proxy(stack.ports.xmpp, **options))


@pytest.fixture
def open_proxy(stack: Stack) -> Iterator[Callable[..., Proxy]]:
    """A function that makes a proxy that sees and may change all that the shared server says.

    It ends TLS itself, and clients reach it with ``tls="off"``.
    """
    with ExitStack() as running:
        yield lambda **options: running.enter_context(
            Proxy(
                stack.ports.xmpp_tls,
                server_tls=ssl.create_default_context(cafile=stack.settings["XMPP_CA_FILE"]),
                by_stanza=True,
                **options,
            )
        )


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """A certificate authority that the server does not use."""
    return trustme.CA()


def server_context(authority: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
    """Return what a server needs that has a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names, **options).configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Any) -> str:
    """The file that makes a client trust ``authority``."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)
