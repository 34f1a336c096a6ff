"""manage.py pubsub_publish: called, and run as a process where signals and pipes matter."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
import uuid
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from pubsub import nodes
from pubsub.backends import locmem
from pubsub.entries import read_entry
from tests.proxy import Impostor
from tests.server.processes import managing, settings_file
from tests.waiting import until

PATIENCE = 60.0


@pytest.fixture
def node() -> str:
    return f"/published/{uuid.uuid4().hex}"


@pytest.fixture
def environment(stack: Any, tmp_path: Any) -> dict[str, str]:
    return settings_file(tmp_path, stack.settings)


def publish(*words: str, **options: Any) -> str:
    """Call the command, and return what it printed."""
    output = io.StringIO()
    call_command("pubsub_publish", *words, stdout=output, **options)
    return output.getvalue()


def held(node: str) -> Any:
    """Return the id and the content of the one item of a node."""
    (item,) = nodes.items(node).result(10)
    entry = read_entry(item.payload)
    return item.id, entry.format, entry.content


@pytest.mark.usefixtures("xmpp_settings")
class TestWithAServer:
    def test_a_text_is_published_and_its_id_printed(self, node: str) -> None:
        id = publish(node, "Hello <&>").removesuffix("\n")
        assert held(node) == (id, "text", "Hello <&>")

    def test_an_id_overwrites(self, node: str) -> None:
        assert publish(node, "one", "--id=7") == "7\n"
        assert publish(node, "two", id="7") == "7\n"
        assert held(node) == ("7", "text", "two")

    @pytest.mark.parametrize("text", ['{"b": [1.50, null]}', '"text"', "null", " 1e400 "])
    def test_json_is_sent_as_it_is_written(self, node: str, text: str) -> None:
        publish(node, text, "--json", "--id=7")
        (item,) = nodes.items(node).result(10)
        assert item.payload is not None
        assert item.payload.getTagData("json") == text

    @pytest.mark.parametrize("words", [["-"], []])
    def test_standard_input_is_read_without_its_last_line_break(
        self, node: str, words: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO("a\nb\n\n"))
        publish(node, *words)
        assert held(node)[1:] == ("text", "a\nb\n")

    def test_a_refusal_of_the_server_is_told(self, node: str, settings: Any) -> None:
        settings.XMPP_PUBSUB_HOST = "nowhere.localhost"
        with pytest.raises(CommandError, match=f"Could not publish on '{node}': the server"):
            publish(node, "Hello")

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"XMPP_PASSWORD": "wrong"}, "not-authorized"),
            ({"XMPP_PORT": 1, "XMPP_TIMEOUT": 0.5}, "cannot connect"),
        ],
        ids=["password", "port"],
    )
    def test_a_server_that_cannot_be_used_is_told_once(
        self, node: str, settings: Any, change: Any, reason: str, capfd: Any
    ) -> None:
        for name, value in change.items():
            setattr(settings, name, value)
        with pytest.raises(CommandError, match=reason):
            publish(node, "Hello")
        assert capfd.readouterr() == ("", "")

    @pytest.mark.django_db
    def test_no_transaction_holds_it_back(self, node: str) -> None:
        publish(node, "Hello", "--id=7")
        assert held(node)[0] == "7"


# What cannot be published


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["", "x"], "must not be empty"),
        (["/\x08", "x"], "XML 1.0 cannot carry"),
        (["/n", "\ud800"], "XML 1.0 cannot carry"),
        (["/n", "x", "--id="], "must not be empty"),
        (["/n", "x" * 250_000], "250,000"),
        (["/n", "NaN", "--json"], "NaN is not in its grammar"),
        (["/n", "[" * 100_000, "--json"], "This is no JSON"),
        (["/n", "", "--json"], "Expecting value in line 1, column 1"),
    ],
    ids=range(8),
)
def test_what_cannot_be_sent_is_an_error(settings: Any, words: list[str], reason: str) -> None:
    settings.PUBSUB_BACKEND = "pubsub.backends.dummy.DummyBackend"
    with pytest.raises(CommandError, match=reason):
        publish(*words)


def test_the_place_where_json_is_none_is_quoted() -> None:
    with pytest.raises(CommandError, match=r"line 2, column 5, between '\{\\n\"a\" ' and 'oops\}'"):
        publish("/n", '{\n"a" oops}', "--json")


@pytest.mark.parametrize("backend", ["console.Console", "locmem.Locmem", "dummy.Dummy"])
def test_every_backend_will_do(settings: Any, backend: str) -> None:
    settings.PUBSUB_BACKEND = f"pubsub.backends.{backend}Backend"
    locmem.items.clear()
    assert publish("/n", "Hello", "--id=7") == "7\n"
    assert [item.id for item in locmem.items] == (["7"] if "locmem" in backend else [])


# As a process


def test_it_reads_a_pipe_and_prints_an_id_and_nothing_else(
    environment: dict[str, str], node: str, xmpp_settings: Any
) -> None:
    with managing(environment, "pubsub_publish", node, "--json", stdin=subprocess.PIPE) as process:
        output, errors = process.communicate(json.dumps(["ü"]), timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    assert held(node) == (output.removesuffix("\n"), "json", ["ü"])


def test_without_a_text_at_a_terminal_it_says_what_to_do(environment: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    try:
        with managing(environment, "pubsub_publish", "/n", stdin=theirs) as process:
            output, errors = process.communicate(timeout=PATIENCE)
    finally:
        os.close(ours)
        os.close(theirs)
    assert (process.returncode, output) == (1, "")
    assert errors.startswith("CommandError: Give the TEXT to publish, or pipe it in")


def test_what_is_no_text_is_an_error_in_one_line(
    environment: dict[str, str], tmp_path: Any
) -> None:
    (tmp_path / "picture").write_bytes(b"\x89PNG\xff")
    with (
        (tmp_path / "picture").open("rb") as picture,
        managing(environment, "pubsub_publish", "/n", stdin=picture) as process,
    ):
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors.count("\n")) == (1, 1)
    assert errors.startswith("CommandError: Standard input is no text")


def test_ctrl_c_ends_it_at_once_without_a_traceback(stack: Any, tmp_path: Any) -> None:
    with Impostor() as server:
        environment = settings_file(
            tmp_path, {**stack.settings, "XMPP_PORT": server.port, "XMPP_TIMEOUT": 100}
        )
        with managing(environment, "pubsub_publish", "/n", "Hello") as process:
            until(lambda: server.count(b"<stream:stream"), "it logs in", PATIENCE)
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == 130


@pytest.mark.parametrize("is_frozen", [False, True], ids=["down", "frozen"])
def test_a_server_that_is_away_is_not_waited_for_twice(
    stack: Any, tmp_path: Any, is_frozen: bool
) -> None:
    """The backend would keep the item, and send it at exit; but nobody is there."""
    with Impostor() as server:
        if not is_frozen:
            server.go_down()
        environment = settings_file(
            tmp_path, {**stack.settings, "XMPP_PORT": server.port, "XMPP_TIMEOUT": 8}
        )
        with managing(environment, "pubsub_publish", "/n", "Hello") as process:
            if is_frozen:
                until(lambda: server.links, "it waits", PATIENCE)
            begin = time.monotonic()
            output, errors = process.communicate(timeout=PATIENCE)
        assert time.monotonic() - begin < 16
        if not is_frozen:
            server.come_up()
    assert (process.returncode, output) == (1, "")
    assert errors.count("\n") == 1
    assert errors.startswith("CommandError: Could not publish on '/n': XMPP server ")
