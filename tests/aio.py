"""Running a coroutine from a test that is none."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

Value = TypeVar("Value")


def run(coroutine: Coroutine[Any, Any, Value]) -> Value:
    """What a coroutine returns, as asyncio.run() does.

    The ORM works in a thread of its own then, whose connections are closed: Django itself never
    closes those to a database in memory.
    """

    async def main() -> Value:
        try:
            return await coroutine
        finally:
            await sync_to_async(_close)()

    return asyncio.run(main())


def _close() -> None:
    for connection in connections.all(initialized_only=True):
        BaseDatabaseWrapper.close(connection)
