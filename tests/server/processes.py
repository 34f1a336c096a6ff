"""Commands of manage.py as processes of their own, with the settings of a stack."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def settings_file(folder: Path, settings: dict[str, Any]) -> dict[str, str]:
    """Write a module of settings to a folder, and return the environment that finds it."""
    lines = [f"{name} = {value!r}" for name, value in settings.items()]
    (folder / "process_settings.py").write_text(
        "\n".join(["from tests.settings import *", *lines, ""]), encoding="utf-8"
    )
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "process_settings",
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "PYTHONWARNINGS": "error",
        "PYTHONIOENCODING": "utf-8",
    }


@contextmanager
def managing(
    environment: dict[str, str], *words: str, **options: Any
) -> Iterator["subprocess.Popen[str]"]:
    """A command that runs; it is killed if it still does when the block is left."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    # Ctrl-C reaches it, even if the tests themselves run in the background of a shell.
    command = ["env", "--default-signal=INT", sys.executable, "-m", "django", *words]
    with subprocess.Popen(command, env=environment, text=True, **options) as process:
        try:
            yield process
        finally:
            if process.poll() is None:  # a test has failed: do not wait for it
                process.kill()
