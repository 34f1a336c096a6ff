"""How commands wait for what they have published: not for ever, as the backend does."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import Any, TypeVar

from django.core.management.base import BaseCommand

from pubsub.backends import get_backend
from pubsub.conf import conf
from pubsub.management.commands._terminal import quiet_log

T = TypeVar("T")


class WaitingCommand(BaseCommand):
    """A command that gives up when the server is away, and then ends without waiting once more."""

    has_given_up = False

    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
        finally:
            if self.has_given_up:
                with quiet_log():
                    get_backend().close(0)

    def awaited(self, future: Future[T]) -> T:
        """The result of a Future, as long as there is a server that may answer.

        :raises PubSubError: what the Future fails with, or why there is no server.
        """
        while True:
            try:
                # A little more, so that whoever finds out why can tell.
                return future.result(conf.timeout + 1)
            except NotYet:
                trouble: Any = get_backend().trouble()
                if trouble is not None:
                    future.cancel()
                    self.has_given_up = True
                    raise trouble from None
