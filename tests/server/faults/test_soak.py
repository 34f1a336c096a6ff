"""``make soak``, for a moment."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.server.test_devstack import processes_of

CHECKOUT = Path(__file__).parents[3]


def test_it_prints_its_ledger_when_it_is_ended_by_ctrl_c(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.soak", "--seconds", "600", "--seed", "3"],
        cwd=CHECKOUT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        said = [process.stderr.readline() for _ in range(4)]  # three faults
        process.send_signal(signal.SIGINT)
        ledger, errors = process.communicate(timeout=100)
    assert process.returncode == 0, "".join(said) + errors + ledger
    assert ledger.startswith("3 faults, seed 3\n"), ledger
    assert ledger.splitlines()[3].split()[0] == "node"
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []
