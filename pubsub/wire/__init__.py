"""XMPP publish-subscribe over xmpppy: stanzas, sessions and one kept-alive connection.

Nothing here knows Django, and nothing outside imports ``xmpp``.
"""
