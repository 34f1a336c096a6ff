"""What is compared with the text of a stanza is the same stanza."""

from xml.etree.ElementTree import canonicalize

from bench import nodes
from pubsub.items import make_item
from pubsub.wire import stanzas


def test_nodes_and_text_make_the_same_stanza():
    payload = make_item("/blog/Post", "Tom & Jerry").payload
    text = stanzas.publish("pubsub.localhost", "/blog/Post", payload, "42").to_xml("1")
    node = nodes.publish("pubsub.localhost", "/blog/Post", nodes.payload(payload), "42", "1")
    # xmpppy writes the namespace of the stream, which the text inherits.
    text = text.replace("<iq ", '<iq xmlns="jabber:client" ', 1)
    assert canonicalize(node) == canonicalize(text)
