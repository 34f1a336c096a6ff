"""Checks of settings that are missing, wrong, or contradict each other."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.core import checks
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured

from pubsub.backends import import_backend
from pubsub.conf import conf


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Every problem of the settings, each with an id and a hint."""
    try:
        backend = import_backend(conf.backend)
    except ImproperlyConfigured as error:
        return [
            Error(
                str(error),
                hint="Name a class such as 'pubsub.backends.xmpp.XMPPBackend'.",
                id="pubsub.E001",
            )
        ]
    messages = list(_check_urls())
    if backend.is_outbox:
        try:
            backend = import_backend(conf.relay_backend)  # the one that needs an account
        except ImproperlyConfigured:
            return messages  # which is told by check_outbox()
    if backend.manages_nodes:
        numbers = list(_check_numbers())
        # The others read the numbers, so they have to wait until those are some.
        messages += numbers or [*_check_account(), *_check_tls()]
        messages += [*_check_domains(), *_check_nodes()]
    return messages


def _check_account() -> Iterator[CheckMessage]:
    if not re.fullmatch(r"[^@/\s]+@[^@/\s]+", conf.jid):
        yield Error(
            f"XMPP_JID = {conf.jid!r} is no bare JID.",
            hint="Write user@domain, without a resource, such as 'django@example.org'.",
            id="pubsub.E002",
        )
    if not conf.password:
        yield Error(
            "XMPP_PASSWORD is not set.",
            hint="Set it to the password of XMPP_JID; `manage.py pubsub_stack` starts a private "
            "server and prints the settings for it.  Without a server, set PUBSUB_BACKEND to "
            "'pubsub.backends.console.ConsoleBackend'.",
            id="pubsub.E003",
        )


def _check_tls() -> Iterator[CheckMessage]:
    if conf.tls not in ("starttls", "direct", "off"):
        yield Error(
            f"XMPP_TLS = {conf.tls!r} is unknown.",
            hint="Choose 'starttls' (the default), 'direct' or 'off'.",
            id="pubsub.E004",
        )
    if conf.tls == "off" and not _is_loopback(conf.host):
        yield Error(
            f"XMPP_TLS = 'off' would send the password to {conf.host} in clear text.",
            hint="Remove XMPP_TLS; without TLS only this machine itself is talked to.",
            id="pubsub.E005",
        )
    elif conf.tls == "off":
        yield checks.Warning(
            f"XMPP_TLS = 'off': the stream to {conf.host} is not encrypted.",
            hint="It does not leave this machine; in production remove XMPP_TLS.",
            id="pubsub.W001",
        )
    if conf.ca_file is not None and not _is_readable(conf.ca_file):
        yield Error(
            f"XMPP_CA_FILE = {conf.ca_file!r} cannot be read.",
            hint="Name a PEM file with the certificate of the authority that signed the server's.",
            id="pubsub.E006",
        )
    elif conf.ca_file is not None and conf.tls == "off":
        yield checks.Warning(
            "XMPP_CA_FILE has no effect, because XMPP_TLS = 'off'.",
            hint="Remove one of the two.",
            id="pubsub.W002",
        )


def _check_numbers() -> Iterator[CheckMessage]:
    for name, lowest, highest in (
        ("port", 1, 65535),
        ("timeout", 0.001, 86400),
        ("queue_size", 1, None),
        ("connections", 1, 64),
    ):
        setting = {
            "port": "XMPP_PORT",
            "timeout": "XMPP_TIMEOUT",
            "queue_size": "PUBSUB_QUEUE_SIZE",
            "connections": "XMPP_CONNECTIONS",
        }
        try:
            value = getattr(conf, name)
        except (TypeError, ValueError, OverflowError) as error:
            problem = str(error)
        else:
            if value >= lowest and (highest is None or value <= highest):
                continue
            problem = f"{value} is out of range"
        yield Error(
            f"{setting[name]} is no usable number: {problem}.",
            hint=f"Give a number from {lowest} to {highest}." if highest else "Give 1 or more.",
            id="pubsub.E007",
        )


def _check_nodes() -> Iterator[CheckMessage]:
    if not conf.pubsub_host:
        yield Error(
            "XMPP_PUBSUB_HOST is empty.",
            hint="Remove it to get 'pubsub.' and the domain of XMPP_JID.",
            id="pubsub.E011",
        )
    try:
        names = list(conf.node_defaults)
    except (TypeError, ValueError) as error:
        problem = str(error)
    else:
        if all(isinstance(name, str) for name in names):
            return
        problem = f"{names} are not all names of fields"
    yield Error(
        f"PUBSUB_NODE_DEFAULTS is no configuration of nodes: {problem}.",
        hint='Write a dict such as {"max_items": 100}; the fields are those of XEP-0060 §16.4.4.',
        id="pubsub.E012",
    )


def _check_domains() -> Iterator[CheckMessage]:
    for setting, domain in (
        ("PUBSUB_GUEST_DOMAIN", conf.guest_domain),
        ("PUBSUB_USER_DOMAIN", conf.user_domain),
    ):
        if not domain or domain.lower() == conf.domain.lower():
            yield Error(
                f"{setting} = {domain!r} is not apart from the publisher's, {conf.jid}.",
                hint="Give visitors and users virtual hosts of their own, as deploy/ejabberd.yml "
                "does; else one of them may become the publisher.",
                id="pubsub.E008",
            )
    if conf.guest_domain.lower() == conf.user_domain.lower():
        yield Error(
            f"PUBSUB_GUEST_DOMAIN and PUBSUB_USER_DOMAIN are both {conf.user_domain!r}.",
            hint="Give each a virtual host of its own; else a visitor may take a user's name.",
            id="pubsub.E013",
        )


def _check_urls() -> Iterator[CheckMessage]:
    for setting, url, schemes in (
        ("PUBSUB_BOSH_URL", conf.bosh_url, ("http", "https")),
        ("PUBSUB_WEBSOCKET_URL", conf.websocket_url, ("ws", "wss")),
    ):
        if url and not url.startswith("/") and _scheme(url) not in schemes:
            yield Error(
                f"{setting} = {url!r} is no address that a browser can use for it.",
                hint=f"Write a path such as '/ws', or an address with {' or '.join(schemes)}://.",
                id="pubsub.E009",
            )
    if not (conf.bosh_url or conf.websocket_url):
        yield Error(
            "Neither PUBSUB_BOSH_URL nor PUBSUB_WEBSOCKET_URL is set.",
            hint="Browsers need one of them; remove both settings to get the defaults.",
            id="pubsub.E010",
        )


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:
        return ""


def _is_readable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.R_OK)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
