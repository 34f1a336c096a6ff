"""What conftest.py promises: in CI nothing is skipped in silence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULES = {
    "a test": "import pytest\ndef test_it(): pytest.skip('no browser')\n",
    "a marked test": "import pytest\n@pytest.mark.skip('no browser')\ndef test_it(): pass\n",
    "a module": "import pytest\npytest.skip('no browser', allow_module_level=True)\n",
}


@pytest.mark.parametrize("what", MODULES)
@pytest.mark.parametrize("ci", [True, False])
def test_a_skip_fails_in_ci(tmp_path: Path, what: str, *, ci: bool) -> None:
    (tmp_path / "test_skipped.py").write_text(MODULES[what])
    outside = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", f"--rootdir={tmp_path}"]
        + ["--no-header", "-c", os.devnull, str(tmp_path)],
        cwd=Path(__file__).parents[1],
        env={**outside, "CI": "true" if ci else "", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode in {1, 2}) == ci, run.stdout
    assert ("A skip fails in CI. Skipped: no browser" in run.stdout) == ci
