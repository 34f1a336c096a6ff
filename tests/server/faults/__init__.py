"""Nothing is lost: what the outbox promises, while everything around it fails.

It is a Django app, too: its ``publications`` are what the writers of these tests publish.
"""
