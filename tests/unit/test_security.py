"""SECURITY.rst: each promise names the tests that hold it, and these exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.rst").read_text(encoding="utf-8")
PROMISES = TEXT.partition("What is promised\n")[2].partition("What is not promised\n")[0]


def test_each_promise_names_its_tests_and_each_test_exists():
    promises = re.split(r"\n(?=\S.*\n    )", PROMISES)[1:]
    assert len(promises) > 10
    for promise in promises:
        named = re.findall(r"``(tests/[^`]+)``", promise)
        assert named, promise
        assert not [path for path in named if not (ROOT / path).exists()]
        for path in named:
            if path.endswith(".py"):
                assert "\ndef test_" in (ROOT / path).read_text(encoding="utf-8")


def test_it_is_shipped():
    assert "SECURITY.rst" in (ROOT / "MANIFEST.in").read_text(encoding="utf-8")
