"""What the nodes on the server are like, against what the publications ask for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pubsub import nodes
from pubsub.exceptions import RequestRefused


def configuration(node: str) -> dict[str, str] | None:
    """The configuration of a node on the server; None where there is no such node.

    :raises PubSubError: when the server cannot be asked.
    """
    try:
        return nodes.configuration(node).result()
    except RequestRefused as error:
        if error.condition == "item-not-found":
            return None
        raise


def difference(node: str, there: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What is different about a node: field → what it is and what it should be.

    :param there: its configuration on the server.
    :returns: an empty dict where it is as it should be.
    """
    asked = {field: _written(value) for field, value in nodes.wanted(node).items()}
    return {
        field: (there.get(field, "unknown to the server"), value)
        for field, value in asked.items()
        if there.get(field) != value
    }


def _written(value: Any) -> str:
    """A value as a data form has it (XEP-0004 §3.3)."""
    return str(int(value)) if isinstance(value, bool) else str(value)
