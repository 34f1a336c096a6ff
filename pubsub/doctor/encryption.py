"""The way from Django to ejabberd: can it be reached, is it encrypted, and until when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone

from pubsub.conf import conf
from pubsub.doctor.certificates import Certificate
from pubsub.doctor.findings import Finding, failure, fine, warning
from pubsub.doctor.site import Site, is_this_machine
from pubsub.doctor.streams import shown_certificate, verified_mechanisms
from pubsub.exceptions import StreamError, TLSError

#: So many days before its end somebody should hear of it.
SOON = 21

#: By these the password is not shown; what Django can do beside is PLAIN.
SCRAM = ("SCRAM-SHA-1", "SCRAM-SHA-256")

NO_TLS = "The publisher's password would be shown to whoever stands in between."


def examine_tls(site: Site) -> Iterator[Finding]:
    """Whether the server can be reached, and its certificate is good for Django."""
    site.server  # noqa: B018 (skipped without one)
    there = f"{conf.host}:{conf.port}"
    if conf.tls == "off":
        yield _without_tls(there)
        return
    try:
        verified_mechanisms()
    except TLSError as error:
        yield _broken(error)
        return
    except StreamError as error:
        yield _no_host() if "host-unknown" in error.reason else _unreachable(error)
        return
    certificate = shown_certificate()
    yield _lasting(certificate)
    authority = f"by the authorities in {conf.ca_file!r}" if conf.ca_file else "by the system's"
    yield fine(f"{there} proves to be {conf.domain!r}, {authority}")


def examine_login(site: Site) -> Iterator[Finding]:
    """Whether the publisher gets in, and without showing his password."""
    offered = verified_mechanisms()
    try:
        site.awaited(site.server.sign_of_life(0))
    except StreamError as error:
        user, _, domain = conf.jid.rpartition("@")
        yield failure(
            f"{conf.jid!r} does not get in: {error.reason}",
            "Nothing is published until he does.",
            f"Compare XMPP_JID and XMPP_PASSWORD with ejabberd's account (ejabberdctl "
            f"change_password {user} {domain} …), and its `access_rules: c2s` with the address "
            "that Django comes from.",
        )
        return
    usable = sorted({*SCRAM, "PLAIN"} & set(offered))
    scram = [name for name in usable if name in SCRAM]
    if scram:
        yield fine(f"{conf.jid!r} logs in; offered is {', '.join(scram)}")
    else:
        yield warning(
            f"{conf.jid!r} logs in by {', '.join(usable)} only",
            "With PLAIN the server, and whoever has its key, sees the password; with SCRAM it "
            "proves that it knows it.",
            "In ejabberd.yml write `auth_password_format: scram`, take SCRAM-SHA-1 and "
            "SCRAM-SHA-256 out of `disable_sasl_mechanisms`, and set the password anew.",
        )


# Private


def _without_tls(there: str) -> Finding:
    if is_this_machine(conf.host):
        return fine(f"XMPP_TLS = 'off': not encrypted, but {there} is this machine itself")
    return failure(
        f"XMPP_TLS = 'off' towards {there}",
        NO_TLS,
        "Remove XMPP_TLS; in ejabberd.yml `starttls_required: true`.",
    )


def _lasting(certificate: Certificate) -> Finding:
    days = certificate.days_left(datetime.now(timezone.utc))
    seen = f"the certificate of {', '.join(certificate.names)} ends in {days} days"
    if days >= SOON:
        return fine(seen)
    return warning(
        seen,
        "Django refuses the server from then on.",
        "Renew what ejabberd.yml names under `certfiles:`, and run `ejabberdctl reload_config`.",
    )


def _broken(error: TLSError) -> Finding:
    try:
        certificate = shown_certificate()
    except (StreamError, LookupError, ValueError):
        return failure(
            str(error),
            NO_TLS + "  So Django does not go on.",
            "In ejabberd.yml, `starttls_required: true` and `certfiles:`; and see that nothing "
            "stands in between that takes TLS away.",
        )
    names = ", ".join(map(repr, certificate.names)) or "nobody"
    ends = f"{certificate.ends:%Y-%m-%d}"
    shown = f"made out to {names}, signed by {certificate.issuer!r}, valid until {ends}"
    if certificate.ends < datetime.now(timezone.utc):
        remedy = "Renew what ejabberd.yml names under `certfiles:`."
    elif conf.domain not in certificate.names and "Hostname mismatch" in error.reason:
        remedy = (
            f"Give ejabberd a certificate of {conf.domain!r} (ejabberd.yml, `certfiles:`), or mend "
            "the domain of XMPP_JID."
        )
    else:
        remedy = (
            "Set XMPP_CA_FILE to a PEM file with the certificate of the authority that has signed "
            f"it; now it is {conf.ca_file!r}."
        )
    return failure(
        f"{error.server} shows a certificate {shown}: {error.reason}",
        "It may be somebody else's server; so Django does not log in.",
        remedy,
    )


def _no_host() -> Finding:
    return failure(
        f"{conf.host}:{conf.port} knows no host {conf.domain!r}",
        "The account of XMPP_JID cannot be there.",
        f"Mend the domain of XMPP_JID = {conf.jid!r}, or list it in ejabberd.yml under `hosts:`.",
    )


def _unreachable(error: StreamError) -> Finding:
    """Nobody answers where the settings say that the server is."""
    return failure(
        str(error),
        "Django publishes nothing until it gets there.",
        f"Is ejabberd running, and does it listen there (ejabberd.yml, `listen:`, {conf.port})?  "
        "Else mend XMPP_HOST and XMPP_PORT, or the firewall.",
    )
