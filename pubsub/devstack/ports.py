"""The loopback ports of a stack: fixed, from the environment, or whatever is free."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from pubsub.devstack.errors import StackError

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Ports:
    """The ports that a stack listens on, all of them on 127.0.0.1; 0 means any free one.

    :param xmpp: the publisher's stream, with STARTTLS.
    :param xmpp_tls: the publisher's stream, with TLS from the first byte.
    :param http: ejabberd's BOSH and WebSocket.
    :param nginx: the site; used only by a stack with nginx.
    """

    xmpp: int = 0
    xmpp_tls: int = 0
    http: int = 0
    nginx: int = 0

    @staticmethod
    def variable(name: str) -> str:
        """The environment variable that sets the port ``name``."""
        return f"PUBSUB_STACK_{name.upper()}_PORT"

    def from_environment(self, environ: Mapping[str, str] = os.environ) -> Ports:
        """These ports, those replaced that ``PUBSUB_STACK_…_PORT`` variables set.

        :raises StackError: for a value that is not a port number.
        """
        changes = {}
        for field in fields(self):
            variable = self.variable(field.name)
            value = environ.get(variable)
            if not value:
                continue
            if not (value.isascii() and value.isdigit() and int(value) < 65536):
                raise StackError(f"{variable}={value!r} is not a port number (0 to 65535).")
            changes[field.name] = int(value)
        return replace(self, **changes)

    def resolved(self) -> Ports:
        """These ports with each 0 replaced by a free port, all of them different."""
        held: list[socket.socket] = []
        changes = {}
        try:
            # Each port is held until all are known, or the system could hand out one twice.
            for field in fields(self):
                if getattr(self, field.name) == 0:
                    held.append(socket.create_server((LOOPBACK, 0)))
                    changes[field.name] = held[-1].getsockname()[1]
        finally:
            for sock in held:
                sock.close()
        return replace(self, **changes)

    def check_free(self, name: str) -> None:
        """Find out whether the port ``name`` can be listened on.

        :raises StackError: when it cannot; the message names the port and its variable.
        """
        port = getattr(self, name)
        try:
            socket.create_server((LOOPBACK, port)).close()
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise StackError(
                f"Port {port} on {LOOPBACK} cannot be used: {reason}. Another port can be chosen "
                f"with the environment variable {self.variable(name)}."
            ) from error
