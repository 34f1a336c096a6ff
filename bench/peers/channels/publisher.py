"""The process that sends to the group, from one loop, which keeps its connection to Redis.

A view would call ``async_to_sync(group_send)``, which opens a connection for each call.
"""

import asyncio

import django
from channels.layers import get_channel_layer

from bench.peers.channels.consumer import GROUP
from bench.peers.publishing import obey


def main() -> None:
    """Send to the group what the bench wants to be sent."""
    layer, loop = get_channel_layer(), asyncio.new_event_loop()

    def publish(text: str) -> None:
        loop.run_until_complete(layer.group_send(GROUP, {"type": "bench.item", "text": text}))

    obey(publish)


if __name__ == "__main__":
    django.setup()
    main()
