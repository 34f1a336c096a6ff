"""The relay: sends what is in the outbox of a database.

Workers, one for each stream, take turns with those of other relays lane by lane: whoever sends
what is in a lane holds a lock on it, so that no row is sent by two at once, and each node's items
go out in their order.
"""
