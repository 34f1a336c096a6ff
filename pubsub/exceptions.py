"""The errors of django-pubsub.  Nothing else of the package is imported here.

PubSubError
├── StreamError             something between us and the XMPP server
│   ├── ConnectError        no stream could be opened: name, network, time
│   ├── TLSError            no verified TLS, so nothing was sent
│   ├── AuthenticationError the server refused the account, or offers no safe mechanism
│   └── StreamLost          an open stream ended before the answer came
│       └── RequestFatal    each stream that it was sent on ended over it
├── RequestTimeout          the server did not answer in time
├── RequestRefused          the server answered with an error (``condition`` tells which)
│   └── SubscriptionRefused it will not let us listen to a node
├── ServerLost              many rows: the rest is not even tried, nobody answers
├── QueueFull               more was published than fits the bounded queue
├── NotAllowed              the user is not logged in, or not active: he gets no credentials
├── BackendError            the configured backend cannot do what was asked
├── AlreadyRelaying         another relay is at work, and the database bears one only
├── InvalidItem             cannot be put on the wire; also a ValueError
│   ├── InvalidNode         the name of a node: empty, too long, no XML text
│   └── PayloadTooBig       more than the server takes
└── RegistrationError       register() and unregister()
    ├── AlreadyRegistered
    └── NotRegistered
"""

from __future__ import annotations


class PubSubError(Exception):
    """The root of every error that django-pubsub raises on purpose."""


class StreamError(PubSubError):
    """Something went wrong between us and the XMPP server.

    :param server: the server as ``host:port``; also an attribute.
    :param reason: what happened and what to do about it; also an attribute.
    """

    def __init__(self, server: str, reason: str) -> None:
        super().__init__(server, reason)
        self.server = server
        self.reason = reason

    def __str__(self) -> str:
        return f"XMPP server {self.server}: {self.reason}"


class ConnectError(StreamError):
    """No stream could be opened: unknown host, nobody listening, too slow."""


class TLSError(StreamError):
    """TLS could not be established or verified; no credentials were sent (RFC 6120 §5)."""


class AuthenticationError(StreamError):
    """The server refused the account, or offers no acceptable mechanism (RFC 6120 §6)."""


class StreamLost(StreamError):
    """The stream ended after the request was sent; whether it took effect is unknown.

    :param condition: with which the server ended it (RFC 6120 §4.9.3), such as
        ``policy-violation``; empty where it said nothing.
    """

    def __init__(self, server: str, reason: str, condition: str = "") -> None:
        super().__init__(server, reason)
        self.condition = condition

    @property
    def accuses(self) -> bool:
        """Whether the server has ended the stream over what it was sent."""
        return self.condition in (
            *("bad-format", "bad-namespace-prefix", "invalid-namespace", "invalid-xml"),
            *("not-well-formed", "policy-violation", "restricted-xml", "unsupported-encoding"),
            *("unsupported-feature", "unsupported-stanza-type"),
        )


class RequestFatal(StreamLost):
    """The server ends the stream whenever it gets this request; it is not sent any more."""


class RequestTimeout(PubSubError):
    """The server did not answer a request within ``XMPP_TIMEOUT`` seconds."""


class RequestRefused(PubSubError):
    """The server answered a request with an error stanza (RFC 6120 §8.3, XEP-0060).

    :param condition: the defined condition, such as ``forbidden`` or ``item-not-found``.
    :param type: what a sender may do: ``auth``, ``cancel``, ``continue``, ``modify`` or ``wait``.
    :param text: the server's own words; may be empty.
    :param pubsub_condition: XEP-0060's refinement, such as ``closed-node``; may be empty.
    """

    def __init__(
        self, condition: str, type: str = "", text: str = "", pubsub_condition: str = ""
    ) -> None:
        super().__init__(condition, type, text, pubsub_condition)
        self.condition = condition
        self.type = type
        self.text = text
        self.pubsub_condition = pubsub_condition

    def __str__(self) -> str:
        detail = f" ({self.pubsub_condition})" if self.pubsub_condition else ""
        words = f": {self.text}" if self.text else ""
        return f"the server refused with {self.condition}{detail}{words}"


class SubscriptionRefused(RequestRefused):
    """The server does not let us listen to a node (XEP-0060 §6.1.3).

    :param node: the node's name.  The rest is as in :class:`RequestRefused`.
    """

    def __init__(
        self,
        node: str,
        condition: str,
        type: str = "",
        text: str = "",
        pubsub_condition: str = "",
    ) -> None:
        super().__init__(condition, type, text, pubsub_condition)
        self.args = (node, *self.args)  # from which copies are made
        self.node = node

    def __str__(self) -> str:
        if self.condition == "item-not-found":
            return (
                f"there is no node {self.node!r} to listen to; publish something to it first, "
                "or create it with nodes.create()"
            )
        return f"cannot listen to the node {self.node!r}: {super().__str__()}"


class ServerLost(PubSubError):
    """Of many rows so many were lost in a row that the others are not tried."""


class QueueFull(PubSubError):
    """The bounded queue of ``PUBSUB_QUEUE_SIZE`` requests is full; this one was not taken."""


class NotAllowed(PubSubError):
    """A user gets no credentials, because he is not logged in, or not active."""


class BackendError(PubSubError):
    """The configured ``PUBSUB_BACKEND`` cannot do what was asked of it."""


class AlreadyRelaying(PubSubError):
    """Another relay is at work on a database that cannot be divided between several."""


class InvalidItem(PubSubError, ValueError):
    """A value that cannot be put on the wire; it was refused before anything was sent."""


class InvalidNode(InvalidItem):
    """A node name that is empty, too long, or holds characters that XML cannot carry."""


class PayloadTooBig(InvalidItem):
    """A payload above the size that the server takes."""


class RegistrationError(PubSubError):
    """A model that cannot be registered or unregistered."""


class AlreadyRegistered(RegistrationError):
    """The model has been registered before."""


class NotRegistered(RegistrationError):
    """The model has not been registered."""
