"""``python -m bench`` with an ejabberd of its own."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.test_devstack import processes_of
from tests.waiting import until

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that PostgreSQL may enter, too, whose user is not ours."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


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


def test_the_outbox_is_measured_with_both_databases(open_folder: Path):
    patterns = ["--only", "relay: ", "--only", "outbox, PostgreSQL: ack"]
    with start(open_folder, "--quick", *patterns) as process:
        tables, progress = process.communicate(timeout=100)
    assert process.returncode == 0, progress
    for words in ("relay: PostgreSQL", "relay: SQLite", "rows/s", "PostgreSQL: acknowledged"):
        assert words in tables
    assert list(open_folder.iterdir()) == []


def test_crowds_are_told(tmp_path: Path):
    line = "fan-out: 100 by WebSocket, direct, without it"
    with start(tmp_path, "--quick", "--only", line) as process:
        table, progress = process.communicate(timeout=100)
    assert process.returncode == 0, progress
    (found,) = (words for words in table.splitlines() if words.startswith(line))
    assert found.split()[-4:-2] == ["0", "0"]  # lost, disordered
    assert list(tmp_path.iterdir()) == []


def test_visitors(tmp_path: Path):
    with start(tmp_path, "--quick", "--only", "memory: Web*nginx, without") as process:
        tables, progress = process.communicate(timeout=100)
    assert process.returncode == 0, progress
    for words in ("memory: WebSocket, nginx", "≤ 35"):
        assert words in tables
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("xmpp:", "measuring"),
        ("relay: PostgreSQL", "measuring"),
        ("network returns", "network: 1 of"),
    ],
)
def test_ctrl_c_ends_it_with_its_servers(open_folder: Path, line: str, words: str):
    with start(open_folder, "--only", line) as process:
        assert process.stderr is not None
        until(lambda: words in process.stderr.readline(), "the first measurement")
        process.send_signal(signal.SIGINT)
        _, progress = process.communicate(timeout=60)
    assert process.returncode == 130, progress
    assert progress == "bench: ended before everything was measured\n"
    assert list(open_folder.iterdir()) == []
    until(lambda: processes_of(open_folder) == [], "the end of all processes")
