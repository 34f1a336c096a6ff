"""``python -m bench`` with an ejabberd of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.server.test_devstack import processes_of
from tests.waiting import until

CHECKOUT = Path(__file__).parents[2]


def start(folder: Path, *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *options],
        cwd=CHECKOUT,
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_saves_are_measured_until_they_are_acknowledged(tmp_path: Path):
    with start(tmp_path, "--quick", "--only", "xmpp:") as process:
        table, progress = process.communicate(timeout=100)
    assert process.returncode == 0, progress
    assert "xmpp: save(), process" in table
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_it_with_its_server(tmp_path: Path):
    with start(tmp_path, "--only", "xmpp:") as process:
        assert process.stderr is not None
        until(lambda: "measuring" in process.stderr.readline(), "the first measurement")
        process.send_signal(signal.SIGINT)
        _, progress = process.communicate(timeout=60)
    assert process.returncode == 130
    assert progress == "bench: ended before everything was measured\n"
    assert list(tmp_path.iterdir()) == []
    until(lambda: processes_of(tmp_path) == [], "the end of all processes")
