"""What stands in a certificate: whom it is made out to, by whom, and until when.  Pure."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any


@dataclass(frozen=True)
class Certificate:
    """What matters of a certificate.

    :param names: the names and addresses that it is made out to.
    :param issuer: who has signed it.
    """

    names: tuple[str, ...]
    issuer: str
    ends: datetime

    def days_left(self, now: datetime) -> int:
        """For how many whole days it is valid yet; negative where it has ended."""
        return (self.ends - now).days


def read_certificate(peer: Mapping[str, Any]) -> Certificate:
    """A certificate from what ``SSLSocket.getpeercert()`` tells of it.

    :raises LookupError, ValueError: for what is none.
    """
    # The common name counts for nothing (RFC 6125 §6.4.4).
    names = tuple(name for _, name in peer.get("subjectAltName", ()))
    issuer = ", ".join(value for part in peer.get("issuer", ()) for _, value in part)
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(peer["notAfter"]), timezone.utc)
    return Certificate(names, issuer, ends)
