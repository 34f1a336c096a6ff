"""Payloads: how a value becomes the ``<entry>`` of an item.

What lives here is pure: values in, XML text out.  Whatever could break a stream is refused here,
before anything is sent.
"""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ET
from datetime import datetime
from typing import Any
from xml.sax.saxutils import quoteattr

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model
from django.utils.functional import Promise

from pubsub.exceptions import InvalidItem, PayloadTooBig
from pubsub.rowxml import FrozenRow, escaped, to_xml

NS_ATOM = "http://www.w3.org/2005/Atom"
NS_META = "urn:django-pubsub:1"
NS_JSON = "urn:xmpp:json:0"

#: How our own element in an ``<entry>`` begins.
_META = f'<meta xmlns="{NS_META}"'

#: ejabberd's limit, which cannot be raised, in bytes.
MAX_PAYLOAD = 250_000

#: Of these so many are kept free for the mark that a payload gets when it is sent.
MARK = 64

_XML_CHARS = "\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff"
_ALL_XML = re.compile(f"[{_XML_CHARS}]*")
_NOT_XML = re.compile(f"[^{_XML_CHARS}]")

#: A name as ElementTree has it, perhaps of a namespace; nothing in it ends it where it is written.
_NAME = re.compile(r"(\{[^{}]*\})?[^\s{}<>/=\"'&]+")


class XML(str):
    """Well-formed XML text of our own making, which is put into the ``<entry>`` as it is."""

    __slots__ = ()


class Unwritten:
    """An ``<entry>`` that is complete, and written by whoever first needs its text.

    Nothing can go wrong any more, and nobody can change it.
    """

    __slots__ = ("_at", "_event", "_origin", "_row")

    def __init__(self, row: FrozenRow, event: str, at: datetime, origin: str) -> None:
        self._row = row
        self._event = event
        self._at = at
        self._origin = origin

    def to_xml(self) -> str:
        """What :func:`make_payload` makes of it."""
        return _entry(XML(self._row.to_xml()), _meta(self._event, self._at, self._origin))


def unwritten(row: FrozenRow, *, event: str, at: datetime, origin: str) -> Unwritten | None:
    """The ``<entry>`` of a row, to be written later.

    :param event, at, origin: see :func:`make_payload`.
    :returns: None where that has to look at the text, for it may be refused.
    """
    # No character takes more than six bytes, with what escapes it.
    most = sum(map(len, row.texts)) + len(origin) + row.most + len(NS_ATOM) + len(NS_META) + MARK
    if (most + 200) * 6 > MAX_PAYLOAD or not all(map(_is_xml, (origin, *row.texts))):
        return None
    return Unwritten(row, event, at, origin)


def make_payload(value: Any, *, event: str, at: datetime, origin: str, about: str) -> str:
    """The ``<entry>`` that carries a value, as XML text.

    :param value: text, a dict or list (JSON, XEP-0335), an xml.etree Element, or a model instance.
    :param event, at, origin: facts about it, which become attributes of its ``<meta>``, so that
        the text of the entry is the text that was published.
    :param about: what it is for, for error messages.
    :raises InvalidItem: for characters that XML 1.0 cannot carry, and values that JSON cannot.
    :raises PayloadTooBig: above 250,000 bytes.
    :raises TypeError: for a value of another type.
    """
    entry = _entry(value, _meta(event, at, origin))
    # No character takes more than four bytes.
    is_small = (len(entry) + MARK) * 4 <= MAX_PAYLOAD
    size = 0 if is_small else len(entry.encode("utf-8", "surrogatepass")) + MARK
    if size > MAX_PAYLOAD:
        raise PayloadTooBig(
            f"{about} would have {size:,} bytes as XML, and the server takes {MAX_PAYLOAD:,}; "
            "publish a reference to it instead"
        )
    check_xml(entry, about)
    return entry


def marked(payload: str, mark: str) -> str:
    """An ``<entry>`` that bears the number of its sending, by which pages know repeats.

    :param payload: what :func:`make_payload` has made.
    :param mark: ``source.number``, which fits :data:`MARK` bytes as an attribute: of two items of
        one id and one source the one with the greater number is the later one.
    """
    return payload.replace(_META, f'{_META} seq="{mark}"', 1)


def tombstone(at: datetime) -> str:
    """The ``<entry>`` of an item that is gone, where the server does not let go of it."""
    return f'<entry xmlns="{NS_ATOM}">{_META} event="deleted" at="{timestamp(at)}"/></entry>'


def is_payload(value: Any) -> bool:
    """Whether a value is of a type that an ``<entry>`` can carry."""
    return isinstance(value, (str, Promise, dict, list, ET.Element, Model))


def timestamp(at: datetime) -> str:
    """XEP-0082 date and time, in UTC."""
    # Quicker than strftime(), and the same.
    return f"{at.isoformat(timespec='microseconds').removesuffix('+00:00')}Z"


def check_xml(text: str, what: str, error: type[InvalidItem] = InvalidItem) -> None:
    """Refuse text that would end the stream.

    :raises InvalidItem: or the given subclass, naming the character.
    """
    found = None if _is_xml(text) else _NOT_XML.search(text)
    if found:
        raise error(
            f"{what} holds {found[0]!r} at position {found.start()}, which XML 1.0 cannot carry"
        )


def shortened(value: Any) -> str:
    """A value as error messages quote it."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 (a number of too many digits; somebody else's __repr__)
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}…"


def element_text(element: ET.Element) -> str:
    """An element as text that stays what it is inside an ``<entry>``.

    ElementTree writes whatever it is given, so the result is read back: a name with a blank in
    it would otherwise end the stream.

    :raises InvalidItem: when it cannot be written, saying why.
    """
    try:
        # Whatever is nested too deeply ends here; copied, it would end the process.
        ET.tostring(element)
        for child in element.iter():
            if not isinstance(child.tag, str):
                raise TypeError(
                    "XMPP allows no comments and processing instructions (RFC 6120 §11.1)"
                )
            for name in map(str, (child.tag, *child.keys())):
                if not _NAME.fullmatch(name):
                    raise ValueError(f"{shortened(name)} is no name")
        root, namespace = _with_default_namespace(element)
        text = ET.tostring(root, encoding="unicode")
        name = text[: re.search(r"[\s/>]", text).start()]  # type: ignore[union-attr]
        text = f"{name} xmlns={quoteattr(namespace)}{text[len(name) :]}"
        ET.fromstring(text)  # noqa: S314 (our own text)
    except (TypeError, ValueError, AttributeError, RecursionError, ET.ParseError) as error:
        raise InvalidItem(f"the element {element.tag!r} cannot be written: {error}") from error
    return text


# Private


def _is_xml(text: str) -> bool:
    """Whether XML can carry a text."""
    # Most is printable, and then there is nothing in it that XML could not carry.  To match what is
    # right takes half the time of searching for what is wrong.
    return text.isprintable() or _ALL_XML.fullmatch(text) is not None


def _meta(event: str, at: datetime, origin: str) -> str:
    source = f" origin={quoteattr(origin)}" if origin else ""
    return f'{_META} event="{event}" at="{timestamp(at)}"{source}/>'


def _entry(value: Any, meta: str) -> str:
    if isinstance(value, ET.Element) and value.tag == f"{{{NS_ATOM}}}entry":
        return _with_first_child(value, meta)
    return f'<entry xmlns="{NS_ATOM}">{meta}{_content(value)}</entry>'


def _content(value: Any) -> str:
    if isinstance(value, XML):
        return value
    if isinstance(value, (str, Promise)):
        return escaped(str(value))
    if isinstance(value, (dict, list)):
        return f'<json xmlns="{NS_JSON}">{escaped(_json(value))}</json>'
    if isinstance(value, ET.Element):
        return element_text(value)
    if isinstance(value, Model):
        return to_xml(value)
    raise TypeError(
        "publish() takes text, a dict, a list, an xml.etree Element or a model instance, "
        f"not {shortened(value)} of type {type(value).__name__}"
    )


def _json(value: Any) -> str:
    try:
        # NaN is no JSON, and JSON.parse() in the browser would stumble over it.
        return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidItem(f"{shortened(value)} is no JSON: {error}") from error


def _with_default_namespace(element: ET.Element) -> tuple[ET.Element, str]:
    """A copy that has the root's namespace as its default, so that names need no prefix.

    Where elements without a namespace are among them, these need the default for themselves.
    """
    root = copy.deepcopy(element)
    root.tail = None  # belongs to whatever stood behind it
    namespace = root.tag[1:].partition("}")[0] if root.tag.startswith("{") else ""
    if not namespace or not all(child.tag.startswith("{") for child in root.iter()):
        return root, ""
    for child in root.iter():
        child.tag = child.tag.removeprefix(f"{{{namespace}}}")
    return root, namespace


def _with_first_child(entry: ET.Element, meta: str) -> str:
    text = element_text(entry)
    start = re.match(r"<(?:[^\"'>]|\"[^\"]*\")*>", text)
    assert start is not None  # ElementTree puts attributes between double quotes
    if start[0].endswith("/>"):
        return f"{start[0][:-2]}>{meta}</{start[0][1:].split()[0]}>"
    return f"{start[0]}{meta}{text[start.end() :]}"
