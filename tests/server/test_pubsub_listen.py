"""manage.py pubsub_listen, run as a process beside a real ejabberd."""

import io
import json
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from pubsub import nodes, publish, retract
from pubsub.management.commands.pubsub_listen import as_json, as_line
from pubsub.wire.events import Event
from tests.proxy import Proxy
from tests.server.processes import managing, settings_file
from tests.testapp.models import Author
from tests.unit.wire.nodes import parse
from tests.waiting import until

PATIENCE = 60.0

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("xmpp_settings")]

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def node() -> str:
    """A node that tells of everything."""
    name = f"/heard/{uuid.uuid4().hex}"
    nodes.create(name, notify_delete=True, notify_retract=True).result(10)
    return name


@pytest.fixture
def start(stack: Any, tmp_path: Any) -> Iterator[Start]:
    """A function that starts the command and returns when it listens."""
    with ExitStack() as running:

        def start(*words: str, settings: Any = None, **options: Any) -> "subprocess.Popen[str]":
            environment = settings_file(tmp_path, {**stack.settings, **(settings or {})})
            process = running.enter_context(
                managing(environment, "pubsub_listen", *words, **options)
            )
            assert process.stderr is not None
            told = process.stderr.readline()
            assert told.startswith("Listening to "), told + process.stderr.read()
            assert told.endswith("; Ctrl-C ends it.\n")
            return process

        yield start


def subscribers(node: str) -> list[str]:
    return [found.jid for found in nodes.subscriptions(node).result(10)]


def next_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().removesuffix("\n")


def test_events_are_printed_as_they_come_one_a_line(start: Start, node: str) -> None:
    process = start(node)
    publish(node, 'a\n\\b "ü" \x9b\u202e', item_id="1").result(10)
    assert next_line(process) == node + r' 1 published a\n\\b "ü" \x9b\u202e'
    publish(node, {"a": "b\n"}, item_id="2").result(10)
    assert next_line(process) == f'{node} 2 published {{"a": "b\\n"}}'
    publish(node, Author(pk=3, name="Ada")).result(10)
    line = next_line(process)
    assert line.startswith(f"{node} 3 published <django-objects ")
    assert ">Ada</field>" in line
    retract(node, "1").result(10)
    assert next_line(process) == f"{node} 1 retract"
    nodes.delete(node).result(10)
    assert next_line(process) == f"{node} - delete"
    output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output) == (0, "")  # no node is left
    assert errors == f"Nothing comes from {node!r} any more: it was deleted\n"


def test_json_is_printed_for_programs(start: Start, node: str) -> None:
    process = start(node, "--json", "--count", "3")
    publish(node, "Hello\n€", item_id="1").result(10)
    publish(node, {"a": [1, None]}, item_id="2").result(10)
    retract(node, "2").result(10)
    output, errors = process.communicate(timeout=PATIENCE)
    text, data, retraction = [json.loads(line) for line in output.splitlines()]
    assert text.pop("at").endswith("Z")
    assert text == {
        "node": node,
        "id": "1",
        "event": "published",
        "format": "text",
        "payload": "Hello\n€",
    }
    assert (data["format"], data["payload"]) == ("json", {"a": [1, None]})
    assert retraction == {
        "node": node,
        "id": "2",
        "event": "retract",
        "at": None,
        "format": None,
        "payload": None,
    }
    assert (process.returncode, errors) == (0, "")
    assert subscribers(node) == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_and_its_subscriptions(start: Start, node: str, signum: int) -> None:
    process = start(node)
    assert len(subscribers(node)) == 1
    process.send_signal(signum)
    process.send_signal(signum)
    assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == 0
    assert subscribers(node) == []


@pytest.mark.parametrize("before", [0, 1])
def test_a_reader_who_leaves_ends_it_quietly(start: Start, node: str, before: int) -> None:
    process = start(node)
    for _ in range(before):
        publish(node, "Hello", item_id="1").result(10)
        assert next_line(process) == f"{node} 1 published Hello"
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(PATIENCE) == 0
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert subscribers(node) == []


def test_a_node_that_does_not_exist_is_an_error_and_nothing_is_left(
    stack: Any, tmp_path: Any, node: str
) -> None:
    environment = settings_file(tmp_path, stack.settings)
    with managing(environment, "pubsub_listen", node, "/missing") as process:
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output, errors.count("\n")) == (1, "", 1)
    assert errors.startswith("CommandError: there is no node '/missing' to listen to; publish")
    assert subscribers(node) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"XMPP_PASSWORD": "wrong"}, "not-authorized"),
        ({"XMPP_PORT": 1}, "cannot connect"),
        ({"PUBSUB_BACKEND": "pubsub.backends.console.ConsoleBackend"}, r"has no listen\(\)"),
    ],
    ids=["password", "port", "backend"],
)
def test_what_it_cannot_listen_to_is_an_error_at_once(
    settings: Any, capfd: Any, change: dict[str, Any], reason: str
) -> None:
    for name, value in change.items():
        setattr(settings, name, value)
    with pytest.raises(CommandError, match=reason):
        call_command("pubsub_listen", "/n")
    assert capfd.readouterr() == ("", "")


def test_a_name_that_no_node_can_have_is_an_error() -> None:
    with pytest.raises(CommandError, match="must not be empty"):
        call_command("pubsub_listen", "")


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_a_count_is_a_positive_number(count: str) -> None:
    with pytest.raises(CommandError, match="argument --count"):
        call_command("pubsub_listen", "/n", "--count", count)


def test_a_stream_that_is_lost_is_reported_and_opened_again(
    stack: Any, start: Start, node: str
) -> None:
    with Proxy(stack.ports.xmpp) as proxy:
        process = start(node, settings={"XMPP_PORT": proxy.port})
        assert process.stderr is not None
        proxy.cut()
        lost = process.stderr.readline()
        assert lost.startswith(f"XMPP server 127.0.0.1:{proxy.port}: ")
        assert "trying again in" in lost
        assert process.stderr.readline().startswith("Listening again; ")
        publish(node, "Hello", item_id="1").result(10)
        assert next_line(process) == f"{node} 1 published Hello"
        assert len(subscribers(node)) == 1
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == 0
    assert subscribers(node) == []


def test_it_can_be_ended_while_the_server_is_away(stack: Any, start: Start, node: str) -> None:
    with Proxy(stack.ports.xmpp) as proxy:
        process = start(node, settings={"XMPP_PORT": proxy.port, "XMPP_TIMEOUT": 1})
        assert process.stderr is not None
        proxy.go_down()
        assert "trying again" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=PATIENCE)
        proxy.come_up()
    assert (process.returncode, output) == (0, "")
    assert "The server keeps the subscription of django@localhost/" in errors
    assert "Traceback" not in errors


def test_called_in_a_program_it_ends_after_so_many_events(node: str) -> None:
    output, errors = io.StringIO(), io.StringIO()
    stop = until_listened_to(node, lambda: publish(node, "Hello", item_id="1"))
    call_command("pubsub_listen", node, count=1, stdout=output, stderr=errors)
    stop()
    assert output.getvalue() == f"{node} 1 published Hello\n"
    assert errors.getvalue() == f"Listening to {node}; Ctrl-C ends it.\n"


def until_listened_to(node: str, then: Callable[[], Any]) -> Callable[[], None]:
    """Do something, in a thread, once somebody has subscribed; returns how to wait for that."""

    def wait() -> None:
        until(lambda: subscribers(node), "somebody has subscribed")
        then().result(10)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread.join


def test_an_item_without_a_payload_has_a_line_of_its_own() -> None:
    event = Event("/n", "item", "1")
    assert as_line(event) == "/n 1 published "
    assert json.loads(as_json(event))["at"] is None


def test_what_a_node_is_called_cannot_break_the_line() -> None:
    event = Event("/a\nb", "item", "\x9b1", parse("<x xmlns='urn:x'>1\n2</x>"))
    assert as_line(event) == r'/a\nb \x9b1 published <x xmlns="urn:x">1\n2</x>'
    assert as_line(Event("/n", "purge")) == "/n - purge"
