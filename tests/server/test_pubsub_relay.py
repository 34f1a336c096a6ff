"""``manage.py pubsub_relay`` as a process, with a real ejabberd and a database in a file."""

import json
import shutil
import signal
import uuid
from pathlib import Path

import pytest
from django.test import override_settings

from pubsub import nodes
from tests.server.processes import managing, settings_file
from tests.waiting import until

SQLITE = "django.db.backends.sqlite3"


@pytest.fixture
def node():
    """The name of a node that no other test uses."""
    return f"/test/{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def migrated(tmp_path_factory):
    """A database with all tables."""
    folder = tmp_path_factory.mktemp("migrated")
    path = folder / "db.sqlite3"
    settings = {"DATABASES": {"default": {"ENGINE": SQLITE, "NAME": str(path)}}}
    done = run(settings_file(folder, settings), "migrate", "-v", "0", "--skip-checks")
    assert done == (0, "", "")
    return path


@pytest.fixture
def site(stack, migrated, tmp_path: Path):
    """The environment of a site with an outbox in a file."""
    shutil.copy(migrated, tmp_path)
    settings = {
        **stack.settings,
        "DATABASES": {"default": {"ENGINE": SQLITE, "NAME": str(tmp_path / "db.sqlite3")}},
        "PUBSUB_BACKEND": "pubsub.backends.outbox.OutboxBackend",
        "XMPP_TIMEOUT": 5,
    }
    return settings_file(tmp_path, settings)


def run(environment, *words):
    """The exit status of a command, and what it has said."""
    with managing(environment, *words) as process:
        said, complaints = process.communicate(timeout=60)
    return process.returncode, said, complaints


def publish(environment, node, *words):
    status, said, complaints = run(environment, "pubsub_publish", node, *words)
    assert status == 0, complaints
    return said.strip()


def held(settings, node):
    """What a node holds."""
    with override_settings(**settings):
        return {item.id: item.payload.getCDATA() for item in nodes.items(node).result(10)}


def test_once_sends_what_there_is_and_ends(site, stack, node):
    item_id = publish(site, node, "Hello")
    publish(site, node, "again", "--id", "7")
    status, said, complaints = run(site, "pubsub_relay", "--once")
    assert (status, said, complaints) == (0, "Relaying\n2 sent\n", "")
    assert held(stack.settings, node) == {item_id: "Hello", "7": "again"}
    assert run(site, "pubsub_relay", "--once") == (0, "Relaying\n0 sent\n", "")


def test_it_relays_until_it_is_told_to_end(site, stack, node):
    with managing(site, "pubsub_relay") as relay:
        assert relay.stdout.readline() == "Relaying\n"
        publish(site, node, "Hello", "--id", "7")
        with override_settings(**stack.settings):
            nodes.create(node).result(10)
        until(lambda: held(stack.settings, node), "the item is on the node")
        relay.send_signal(signal.SIGTERM)
        said, complaints = relay.communicate(timeout=30)
    assert (relay.returncode, complaints) == (0, "")
    assert said == "Stopping …\n1 sent\n"


def test_ctrl_c_ends_it_as_well(site):
    with managing(site, "pubsub_relay") as relay:
        assert relay.stdout.readline() == "Relaying\n"
        relay.send_signal(signal.SIGINT)
        assert relay.communicate(timeout=30) == ("Stopping …\n0 sent\n", "")
    assert relay.returncode == 0


def test_a_second_relay_of_an_sqlite_database_says_why_it_does_not_start(site):
    with managing(site, "pubsub_relay") as first:
        assert first.stdout.readline() == "Relaying\n"
        status, said, complaints = run(site, "pubsub_relay")
        assert (status, said) == (1, "")
        assert f"another pubsub_relay (process {first.pid}) is at work on" in complaints
        first.kill()
        first.communicate(timeout=30)
    assert run(site, "pubsub_relay", "--once")[0] == 0


def test_the_status_tells_what_waits_and_for_how_long(site, node):
    assert run(site, "pubsub_relay", "--status")[1] == (
        "default: 0 waiting, 0 later, 0 set aside; lag 0.0 s\n"
    )
    publish(site, node, "Hello")
    status, said, _ = run(site, "pubsub_relay", "--status", "--json")
    found = json.loads(said)["default"]
    assert status == 0
    assert found["lag"] > 0
    assert (found["waiting"], found["later"], found["refused"]) == (1, 0, 0)


def test_without_a_server_once_says_why_nothing_was_sent_and_keeps_it(site, stack, node, tmp_path):
    publish(site, node, "Hello")
    path = tmp_path / "process_settings.py"
    settings = path.read_text()
    path.write_text(settings + "XMPP_PORT = 1\nXMPP_TIMEOUT = 1\n")
    status, _, complaints = run(site, "pubsub_relay", "--once")
    assert status == 1
    assert "Not all could be sent: XMPP server 127.0.0.1:1: " in complaints
    path.write_text(settings)
    assert run(site, "pubsub_relay", "--once")[1] == "Relaying\n1 sent\n"
    assert list(held(stack.settings, node).values()) == ["Hello"]


def test_a_row_that_the_server_refuses_holds_up_no_other(site, stack, node):
    with override_settings(**stack.settings):
        # Such a node takes nothing that has a payload.
        nodes.create(node, persist_items=False, deliver_payloads=False).result(10)
    publish(site, node, "refused")
    publish(site, f"{node}/other", "Hello", "--id", "7")
    status, said, complaints = run(site, "pubsub_relay", "--once")
    assert status == 1
    assert said.endswith("1 sent\n")
    assert "1 were set aside; the admin shows why." in complaints
    assert held(stack.settings, f"{node}/other") == {"7": "Hello"}
    assert "1 set aside" in run(site, "pubsub_relay", "--status")[1]


def test_a_database_that_is_not_there_is_named(site):
    status, _, complaints = run(site, "pubsub_relay", "--database", "nowhere")
    assert status == 1
    assert "There is no database 'nowhere'; there are: default." in complaints


def test_without_its_tables_it_says_what_to_do(site, tmp_path):
    (tmp_path / "db.sqlite3").unlink()
    status, _, complaints = run(site, "pubsub_relay")
    assert status == 1
    assert "no such table: pubsub_outboxlane. Has `manage.py migrate` been run?" in complaints


def test_a_relay_that_would_only_fill_the_outbox_is_refused(site, tmp_path):
    path = tmp_path / "process_settings.py"
    path.write_text(
        path.read_text() + "PUBSUB_RELAY_BACKEND = 'pubsub.backends.outbox.OutboxBackend'\n"
    )
    status, _, complaints = run(site, "pubsub_relay")
    assert status == 1
    assert "pubsub.E028" in complaints
