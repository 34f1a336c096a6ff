"""All examinations, in the order in which they are made: what others need comes first."""

from __future__ import annotations

from pubsub.doctor import (
    access,
    delivering,
    encryption,
    front,
    guarding,
    guests,
    handing,
    relaying,
    remains,
    roundtrip,
    service,
    settings,
    tokens,
)
from pubsub.doctor.examining import Examination

EXAMINATIONS = (
    Examination("backend", "Does what is published go anywhere?", settings.examine_backend),
    Examination("checks", "Do Django's own checks find errors?", settings.examine_checks),
    Examination(
        "tls",
        "Is ejabberd reached, and its certificate good?",
        encryption.examine_tls,
        ("backend",),
    ),
    Examination("login", "Does the publisher get in?", encryption.examine_login, ("tls",)),
    Examination("service", "Is there a pubsub service?", service.examine_service, ("login",)),
    Examination(
        "publisher",
        "May the publisher make, fill and remove nodes?",
        service.examine_publisher,
        ("service",),
    ),
    Examination(
        "access",
        "Are private nodes private, and does nobody else publish?",
        access.examine_access,
        ("service",),
    ),
    Examination("guests", "Do visitors without an account get in?", guests.examine_guests),
    Examination(
        "creating",
        "Does nobody but the publisher make nodes?",
        guests.examine_creating,
        ("publisher", "guests"),
    ),
    Examination(
        "rights",
        "Can guests do nothing to nodes but read the open ones?",
        guests.examine_rights,
        ("publisher", "guests"),
    ),
    Examination(
        "neighbours",
        "Does no guest reach the page of another?",
        guests.examine_neighbours,
        ("guests",),
    ),
    Examination("guard", "Is ejabberd's guard loaded?", guarding.examine_guard, ("login",)),
    Examination(
        "subscriptions",
        "Are there subscriptions of sessions that have ended?",
        remains.examine_subscriptions,
        ("service",),
    ),
    Examination(
        "database", "Where does ejabberd keep nodes?", guarding.examine_database, ("guard",)
    ),
    Examination(
        "fanout", "Is ejabberd's quick way to sessions on?", delivering.examine_fanout, ("service",)
    ),
    Examination("clock", "Do the clocks agree?", guarding.examine_clock, ("publisher",)),
    Examination(
        "tokens", "Do users get in by Django's tokens?", tokens.examine_tokens, ("backend",)
    ),
    Examination(
        "forgery", "Does nobody get in by a forged one?", tokens.examine_forgery, ("tokens",)
    ),
    Examination(
        "users",
        "Can users do nothing to nodes but what they are let?",
        guests.examine_users,
        ("publisher", "tokens"),
    ),
    Examination("bosh", "Do browsers get in by BOSH?", front.examine_bosh),
    Examination(
        "holding",
        "Does an item get through to a request that waits?",
        roundtrip.examine_holding,
        ("publisher", "bosh"),
    ),
    Examination("websocket", "Do browsers get in by WebSocket?", front.examine_websocket),
    Examination("origin", "Are pages of other sites refused there?", front.examine_origin),
    Examination(
        "credentials",
        "Does the site give credentials to its users only?",
        handing.examine_credentials,
    ),
    Examination("paths", "Is the rest of ejabberd closed to them?", front.examine_paths),
    Examination(
        "canary",
        "How soon does a page hear of an item?",
        roundtrip.examine_canary,
        ("publisher", "guests"),
    ),
    Examination("outbox", "Is there a relay that sends it?", relaying.examine_outbox),
)
