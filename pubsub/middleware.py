"""OriginMiddleware: what a request publishes bears the mark of the page that sent it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from pubsub.context import origin_of, originating

#: The header in which a page names itself.
HEADER = "X-PubSub-Client"

_CLIENT_ID = re.compile(r"[\w-]{8,128}", re.ASCII)

Response = HttpResponseBase | Awaitable[HttpResponseBase]


class OriginMiddleware:
    """Reads ``X-PubSub-Client``, so that the page can leave its own echo out (``excludeSelf``).

    What is published while the request is answered bears the ``origin`` in its ``<meta>``; what
    looks like no client's id is ignored.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Response]) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Response:
        client_id = request.headers.get(HEADER, "")
        if not _CLIENT_ID.fullmatch(client_id):
            return self._get_response(request)
        origin = origin_of(client_id)
        if self._is_async:
            return self._answer(request, origin)
        with originating(origin):
            return self._get_response(request)

    async def _answer(self, request: HttpRequest, origin: str) -> HttpResponseBase:
        with originating(origin):
            response = self._get_response(request)
            assert not isinstance(response, HttpResponseBase)  # we are called asynchronously
            return await response
