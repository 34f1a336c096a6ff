"""One of these for each WebSocket: a member of the group, who passes on what it hears.

As on https://channels.readthedocs.io/en/stable/topics/channel_layers.html#groups, asynchronous as
the tutorial's third part makes it.
"""

from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer

GROUP = "bench"


class Listener(AsyncWebsocketConsumer):
    """A subscriber."""

    async def connect(self) -> None:
        await self.channel_layer.group_add(GROUP, self.channel_name)
        await self.accept()

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(GROUP, self.channel_name)

    async def bench_item(self, event: dict[str, Any]) -> None:
        """A message of the group, of the type ``bench.item``."""
        await self.send(text_data=event["text"])
