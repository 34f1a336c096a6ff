"""manage.py pubsub_stack, run as a process in a project that has no XMPP settings yet."""

import ast
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.server.test_devstack import fetch, processes_of, starttls
from tests.waiting import until

PATIENCE = 60.0


@contextmanager
def start(folder: Path, *options: str, **environ: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "pubsub_stack", *options],
        cwd=folder,
        env={
            **{name: value for name, value in os.environ.items() if "PUBSUB" not in name},
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": str(Path(__file__).parents[2]),
            **environ,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:  # a test has failed: do not wait for it
                process.kill()


def read_settings(process: "subprocess.Popen[str]") -> dict[str, Any]:
    """Read what a person would paste, up to the end of the block."""
    settings: dict[str, Any] = {}
    assert process.stdout is not None
    for line in process.stdout:
        name, equals, value = line.partition(" = ")
        if equals and name.isupper():
            settings[name] = ast.literal_eval(value)
        elif settings and not line.strip():
            break
    return settings


FREE = [f"--{name}-port=0" for name in ("xmpp", "xmpp-tls", "http", "nginx")]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGHUP])
def test_it_prints_settings_that_work_and_ends_cleanly(tmp_path: Path, signum: int) -> None:
    with start(tmp_path, *FREE) as process:
        settings = read_settings(process)
        assert starttls(settings)
        assert fetch(settings["PUBSUB_BOSH_URL"])[0] == 200
        process.send_signal(signum)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    assert "ejabberd |" in output
    assert output.endswith("Stopped.\n")
    until(lambda: processes_of(tmp_path / ".pubsub_stack") == [], "the end of all processes")
    assert (tmp_path / ".pubsub_stack" / ".gitignore").read_text() == "*\n"


def test_nginx_is_started_and_sessions_are_left_out_when_asked_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    folder = tmp_path / "elsewhere"
    with start(
        tmp_path,
        *["--nginx", "--without-sessions", f"--folder={folder}", *FREE[:3]],
        PUBSUB_STACK_NGINX_PORT=str(port),
    ) as process:
        settings = read_settings(process)
        assert settings["PUBSUB_BOSH_URL"] == "/http-bind"
        assert settings["STATIC_ROOT"] == str(folder / "static")
        assert fetch(f"http://127.0.0.1:{port}/http-bind")[0] == 200
        assert not (folder / "ebin" / "mod_pubsub_sessions.beam").exists()
        process.terminate()
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    assert output.endswith("Stopped.\n")
    until(lambda: processes_of(folder) == [], "the end of all processes")


def test_a_child_that_ends_by_itself_ends_it_with_an_error(tmp_path: Path) -> None:
    with start(tmp_path, *FREE) as process:
        read_settings(process)
        beam = processes_of(tmp_path / ".pubsub_stack")[0]
        os.kill(int(beam.split()[0]), signal.SIGKILL)
        _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "CommandError: ejabberd has ended by itself" in errors


def test_a_taken_port_is_an_error_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start(tmp_path, *FREE, f"--http-port={port}") as process:
            _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert f"Port {port}" in errors
    assert "PUBSUB_STACK_HTTP_PORT" in errors
