"""xmpppy's nodes, made from text as its parser makes them from a stream."""

from xmpp.simplexml import NodeBuilder


def parse(text):
    """What xmpppy makes of a stanza."""
    return NodeBuilder(text).getDom()


def result(body):
    """The result of an IQ."""
    return parse(f'<iq xmlns="jabber:client" type="result" id="id1">{body}</iq>')
