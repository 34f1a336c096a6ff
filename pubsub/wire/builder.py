"""Builds xmpppy's nodes of what a stream brings, in a third of the time that xmpppy takes for it.

Each acknowledgement is four of them.  The header of the stream is left to xmpppy.
"""

from __future__ import annotations

from collections.abc import Callable

from xmpp.simplexml import Node, NodeBuilder


class Builder:
    """The handlers of a stream's parser.

    :param stream: xmpppy's own builder, with its parser; it is told of the header and the footer.
    :param dispatch: called with each stanza when it is complete.
    """

    def __init__(self, stream: NodeBuilder, dispatch: Callable[[Node], None]) -> None:
        self._stream = stream
        self._dispatch = dispatch
        self._is_open = False
        self._node: Node | None = None  # the one that is being built
        self._is_text = False  # whether its text came last
        parser = stream._parser
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text

    # Private

    def _start(self, tag: str, attrs: dict[str, str]) -> None:
        if not self._is_open:
            self._stream.starttag(tag, attrs)
            self._is_open = True
            return
        parent = self._node
        if parent is not None and not self._is_text:
            parent.data.append("")  # before each child there is a text
        self._node = node = _node(tag, attrs, parent, self._stream._document_nsp)
        self._is_text = False
        if parent is not None:
            parent.kids.append(node)

    def _end(self, tag: str) -> None:
        node = self._node
        if node is None:
            self._stream.stream_footer_received()
            return
        self._node = parent = node.parent
        self._is_text = False
        if parent is None:
            self._dispatch(node)

    def _text(self, text: str) -> None:
        node = self._node
        if node is None:
            return  # between stanzas, to keep the connection alive
        if self._is_text:
            node.data[-1] += text
        else:
            node.data.append(text)
            self._is_text = True


def _node(tag: str, attrs: dict[str, str], parent: Node | None, declared: dict[str, str]) -> Node:
    """A node as xmpppy's own builder makes it.

    :param declared: the namespaces that the stream's header has declared, by their prefixes.
    """
    node = Node.__new__(Node)
    node.attrs = attrs
    node.data = []
    node.kids = []
    node.parent = parent
    node.nsd = nsd = {}
    for name, value in attrs.items():
        if name == "xmlns":
            nsd[""] = value
        elif name.startswith("xmlns:"):
            nsd[name[6:]] = value
    node.nsp_cache = {} if parent is not None else dict(declared)
    prefix, node.name = ("", tag) if ":" not in tag else tag.split(":")[-2:]
    node.namespace = node.lookup_nsp(prefix)
    return node
