"""Telling what goes on."""

import sys


def say(text: str) -> None:
    """Tell it out of the way of the tables."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
