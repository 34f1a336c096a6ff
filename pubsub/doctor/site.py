"""The site that is examined: its server, and what the examinations share.

Whatever is made on the server is removed when its block is left, however that happens.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from pubsub.backends import import_backend
from pubsub.backends.base import BaseBackend
from pubsub.conf import conf
from pubsub.doctor.findings import Skipped
from pubsub.doctor.visitors import Visitor
from pubsub.exceptions import PubSubError, RequestRefused, RequestTimeout

T = TypeVar("T")

#: Below it are the nodes that the doctor makes, and removes.
FOLDER = "/pubsub-doctor/"


class Site:
    """An installation, as the settings describe it.  A context manager.

    :param url: the address of the site's front, ``https://…``; empty where nobody gave it.
    """

    def __init__(self, url: str = "") -> None:
        self.url = url
        #: Nodes that could not be removed.
        self.left: list[str] = []
        self._opened: list[BaseBackend] = []

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *error: object) -> None:
        for backend in self._opened:
            backend.close(min(conf.timeout, 2.0))

    @property
    def backend_path(self) -> str:
        """The dotted path of the class that talks to the server."""
        is_outbox = import_backend(conf.backend).is_outbox
        return conf.relay_backend if is_outbox else conf.backend

    @cached_property
    def server(self) -> BaseBackend:
        """The server, as Django reaches it; what fails fails at once.

        :raises Skipped: where the settings name none.
        """
        path = self.backend_path
        backend_class = import_backend(path)
        if not backend_class.manages_nodes:
            raise Skipped(f"{path!r} talks to no server")
        backend = backend_class.for_relay()
        self._opened.append(backend)
        return backend

    def awaited(self, future: Future[T]) -> T:
        """The result of a Future, within XMPP_TIMEOUT.

        :raises PubSubError: what it fails with.
        """
        try:
            # A little more, so that who knows why it takes so long can say so.
            return future.result(conf.timeout + 1)
        except NotYet:
            future.cancel()
            raise RequestTimeout(f"no answer within {conf.timeout:g} s") from None

    @contextmanager
    def node(self, **configuration: Any) -> Iterator[str]:
        """A node of a name that nobody else has, on the server until the block is left.

        :param configuration: as of :func:`pubsub.nodes.create`.
        """
        name = f"{FOLDER}{secrets.token_hex(8)}"
        try:
            # Whatever goes wrong after this line, it may be there.
            self.awaited(self.server.create_node(name, configuration))
            yield name
        finally:
            self._remove(name)

    def guest(self, *, url: str = "", name: str = "") -> Visitor:
        """A guest who has logged in; to be closed.

        :param url: where BOSH is; directly at ejabberd, if not given.
        :param name: one that nobody else has, if not given.
        :raises StreamError: when he does not get in.
        """
        return Visitor(
            url or conf.prebind_url,
            conf.guest_domain,
            name or f"pubsub-doctor-{secrets.token_hex(8)}",
            "any password",
            ca_file=None if url else conf.ca_file,
        )

    def front(self, address: str, setting: str) -> str:
        """The whole address of something behind the site's front.

        :param address: what the setting says: a path or a whole address.
        :raises Skipped: where it cannot be known.
        """
        if not address:
            raise Skipped(f"{setting} is empty: pages do not use it")
        if urlsplit(address).scheme:
            return address
        if not self.url:
            raise Skipped(
                f"{setting} = {address!r} is a path: say whose, with --url https://your.site/"
            )
        return urljoin(self.url, address)

    # Private

    def _remove(self, name: str) -> None:
        for _ in range(2):  # the stream may be lost, and then there is another one
            try:
                self.awaited(self.server.delete_node(name))
            except RequestRefused as error:
                if error.condition == "item-not-found":  # it has been deleted, or never was
                    return
            except PubSubError:
                pass
            else:
                return
        self.left.append(name)


def is_this_machine(host: str) -> bool:
    """Whether a name or an address means the loopback."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
