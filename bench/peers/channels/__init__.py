"""A site with Channels: messages by WebSocket, through a group of a channel layer in Redis."""
