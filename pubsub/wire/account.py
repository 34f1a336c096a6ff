"""Whom to log in as, and where: plain data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Account:
    """Whom to log in as, and where.

    :param jid: bare JID, ``user@domain``; the domain is what the certificate must name.
    :param host: name or address of the server; no SRV record is looked up.
    :param tls: ``starttls`` (required, RFC 6120 §5), ``direct`` (XEP-0368, usually port 5223),
        or ``off``, which is accepted towards a loopback address only.
    :param ca_file: PEM file of trusted authorities; None trusts the system's.
    :param timeout: seconds that logging in may take altogether.
    """

    jid: str
    password: str = field(repr=False)
    host: str
    port: int = 5222
    tls: Literal["starttls", "direct", "off"] = "starttls"
    ca_file: str | None = None
    timeout: float = 10.0

    @property
    def username(self) -> str:
        """The local part of the JID."""
        return self.jid.rpartition("@")[0]

    @property
    def domain(self) -> str:
        """The domain of the JID."""
        return self.jid.rpartition("@")[2]
