"""``python -m demo``, run as a process."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pubsub.devstack import sessions_wanted
from tests.server.test_devstack import fetch, processes_of
from tests.waiting import until

PATIENCE = 60.0
CHECKOUT = Path(__file__).parents[2]


@contextmanager
def demo(folder: Path, *options: str, **environ: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-m", "demo", *options],
        cwd=CHECKOUT,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("XMPP_")},
            "DEMO_FOLDER": str(folder),
            "PUBSUB_STACK_NGINX_PORT": "0",
            **environ,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def address(process: "subprocess.Popen[str]") -> str:
    """Read the demo's output until it says where it is."""
    said = []
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if found := re.fullmatch(r"The demo is at (\S+)\n", line):
            return found[1]
    pytest.fail("".join(said))


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_it_serves_its_page_and_leaves_nothing_running(
    tmp_path: Path, signum: int, code: int
) -> None:
    folder = tmp_path / "demo"
    with demo(folder, DEMO_METHOD="prefork") as process:
        status, page, _ = fetch(address(process))
        assert (status, page.lstrip()[:9].lower()) == (200, "<!doctype")
        process.send_signal(signum)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, output
    until(lambda: processes_of(folder) == [], "the end of all processes")


def test_the_doctor_finds_nothing_wrong_with_it_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with demo(folder) as process:
        site = address(process)
        django = next(line for line in processes_of(folder) if "runfcgi" in line)
        environment = (Path("/proc") / django.split()[0] / "environ").read_text().split("\0")
        doctor = subprocess.run(
            [sys.executable, "-m", "django", "pubsub_doctor", "--json", "--url", site],
            cwd=CHECKOUT,
            env=dict(line.split("=", 1) for line in environment if line),
            capture_output=True,
            text=True,
            check=False,
        )
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    until(lambda: processes_of(folder) == [], "the end of all processes")
    assert doctor.returncode == 0, doctor.stderr
    outcomes = {found["name"]: found["outcome"] for found in json.loads(doctor.stdout)}
    left_out = {name: outcome for name, outcome in outcomes.items() if outcome != "ok"}
    assert left_out.pop("fanout", "ok") == ("ok" if sessions_wanted() else "warning")
    assert left_out == {"outbox": "skipped"}  # which the demo has not


def test_a_child_that_dies_is_named_and_ends_the_demo(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with demo(folder, "--without-sessions") as process:
        address(process)
        assert not (folder / "ebin" / "mod_pubsub_sessions.beam").exists()
        django = next(line for line in processes_of(folder) if "runfcgi" in line)
        os.kill(int(django.split()[0]), signal.SIGKILL)
        output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "demo: django has ended by itself" in output
    until(lambda: processes_of(folder) == [], "the end of all processes")


def test_help_lists_the_environment_variables(tmp_path: Path) -> None:
    with demo(tmp_path, "--help") as process:
        output, _ = process.communicate(timeout=PATIENCE)
    for name in ("NGINX_PORT", "XMPP_PORT", "XMPP_TLS_PORT", "HTTP_PORT"):
        assert f"PUBSUB_STACK_{name}" in output
    assert "DEMO_METHOD" in output
    assert "--without-sessions" in output
