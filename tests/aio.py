"""Coroutines and threads that use the database in a test."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

Value = TypeVar("Value")


def run(coroutine: Coroutine[Any, Any, Value]) -> Value:
    """What a coroutine returns, as asyncio.run() does; the ORM has a thread of its own then."""

    async def main() -> Value:
        try:
            return await coroutine
        finally:
            await sync_to_async(close_connections)()

    return asyncio.run(main())


def close_connections() -> None:
    """Close the connections of this thread: Django never closes those to a database in memory."""
    for connection in connections.all(initialized_only=True):
        BaseDatabaseWrapper.close(connection)
