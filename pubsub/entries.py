"""Entry: what an item holds, read back from the ``<entry>`` that ``payloads`` wrote.

Others may publish, too, so nothing here raises, whatever an item holds.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from pubsub.exceptions import InvalidItem
from pubsub.items import CREATED, PUBLISHED, UPDATED
from pubsub.payloads import NS_ATOM, NS_JSON, NS_META, element_text


@dataclass(frozen=True)
class Entry:
    """The content of an item.

    :param event: ``created``, ``updated`` or ``published``.
    :param at: when it happened (XEP-0082, UTC), as its publisher tells; may be empty.
    :param format: what ``content`` is: text, a value of JSON, or XML as text.
    """

    event: str
    at: str
    format: Literal["text", "json", "xml"]
    content: Any


def read_entry(payload: object) -> Entry:
    """Read the payload of an item.

    What is nested so deeply that it cannot be written is read as nothing.

    :param payload: what is one element as XML once it is made a ``str``, such as the ``payload``
        of an event.
    """
    try:
        text = str(payload)
    except RecursionError:
        return Entry(PUBLISHED, "", "xml", "")
    try:
        root = ET.fromstring(text)  # noqa: S314 (one stanza of a stream: no document type)
    except (ET.ParseError, UnicodeError):  # a prefix that was declared around it
        return Entry(PUBLISHED, "", "xml", text)
    if root.tag != f"{{{NS_ATOM}}}entry":
        return Entry(PUBLISHED, "", "xml", text)
    meta = root.find(f"{{{NS_META}}}meta")
    event, at = (meta.get("event", ""), meta.get("at", "")) if meta is not None else ("", "")
    content = _content([child for child in root if child is not meta], root, text)
    return Entry(event if event in (CREATED, UPDATED) else PUBLISHED, at, *content)


# Private


def _content(
    children: list[ET.Element], root: ET.Element, text: str
) -> tuple[Literal["text", "json", "xml"], Any]:
    words = "".join([root.text or "", *(child.tail or "" for child in root)])
    if not children:
        return "text", words
    if words.strip():
        return "xml", text
    try:
        if [child.tag for child in children] == [f"{{{NS_JSON}}}json"]:
            return "json", json.loads(children[0].text or "", parse_constant=_refuse)
        return "xml", "".join(element_text(child) for child in children)
    except (ValueError, RecursionError, InvalidItem):
        return "xml", text


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
