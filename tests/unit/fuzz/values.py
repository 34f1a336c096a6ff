"""What the fuzzers draw: text as attackers write it, elements and values of any kind."""

import datetime as dt
import xml.etree.ElementTree as ET
from decimal import Decimal

from hypothesis import strategies as st

#: What has broken parsers: of XML, of JSON, of logs, of pages.
TRICKS = (
    *("]]>", "<![CDATA[", "<!DOCTYPE a [<!ENTITY b 'c'>]>", "&b;", "&#0;", "&#xFFFF;", "&lt;"),
    *("<!--", "-->", "<?xml version='1.0'?>", "</item></publish></pubsub></iq>", '"/>', "'/>"),
    *("</stream:stream>", "<message to='a@b'/>", "<script>alert(1)</script>", "xmlns='urn:x'"),
    *("\r\n", "\t", "\0", "\x08", "\x7f", "\x85", "\u2028", "\ufeff", "\ufffe", "\uffff"),
    *("\ud800", "\udfff", "\U0001f600", "\u202e", "%s", "{0}", "\\u0000", "../", "xml:lang"),
)

#: Any text there is, lone surrogates included, with a trick in it more often than not.
text = st.lists(st.sampled_from(TRICKS) | st.text(max_size=4), max_size=4).map("".join)

#: Text that comes out as it went in.  (A parser of XML reads a carriage return as a newline.)
carried = st.lists(
    st.text(
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
        | st.sampled_from("\t\n<>&\"'"),
        max_size=4,
    )
    | st.sampled_from([trick for trick in TRICKS if trick.isprintable()]),
    max_size=4,
).map("".join)

names = st.from_regex(r"[a-z][a-z0-9.-]{0,5}", fullmatch=True)
namespaces = st.sampled_from(
    ["", "urn:x", "http://www.w3.org/2005/Atom", "urn:django-pubsub:1", "urn:\"'<>&"]
)


def tags(names: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Names as ElementTree writes them, with a namespace or without."""
    return st.builds(lambda space, name: f"{{{space}}}{name}" if space else name, namespaces, names)


@st.composite
def elements(draw, tags, text, children):
    """One element; its children and their tails included."""
    element = ET.Element(draw(tags), draw(st.dictionaries(tags, text, max_size=2)))
    element.text = draw(st.none() | text)
    for child in draw(children):
        child.tail = draw(st.none() | text)
        element.append(child)
    return element


def trees(tags, text) -> st.SearchStrategy[ET.Element]:
    """Elements in elements."""
    return st.recursive(
        elements(tags, text, st.just([])),
        lambda inner: elements(tags, text, st.lists(inner, max_size=3)),
        max_leaves=6,
    )


#: Elements that XML can carry.
sound_trees = trees(tags(names), carried)

#: Elements of whatever names and texts.
any_trees = trees(tags(names | text) | text, text)

_atoms = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary(max_size=4)
    | st.uuids()
    | st.sampled_from([Decimal("NaN"), dt.date(2026, 11, 26), dt.timedelta(1), object(), ..., int])
    | text
)

#: Anything that Python has, or nearly.
anything = st.recursive(
    _atoms,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(text | st.integers() | st.none() | st.tuples(text), inner, max_size=3)
        | st.frozensets(text, max_size=2)
    ),
    max_leaves=6,
)

#: A number of more digits than Python writes.
huge = st.booleans().map(lambda more: 10**5000 + more)

ids = text | st.integers() | st.uuids() | _atoms | huge
