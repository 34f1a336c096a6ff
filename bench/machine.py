"""What is measured with: the versions that a table is worth nothing without."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version


def versions() -> dict[str, str]:
    """Name → version of all that the figures depend on."""
    return {
        "Python": platform.python_version(),
        "Django": version("Django"),
        "xmpppy": version("xmpppy"),
        "ejabberd": ejabberd_version(),
        "CPUs": str(os.cpu_count()),
    }


def ejabberd_version() -> str:
    """The version of Debian's package, or that it is not known."""
    command = ["dpkg-query", "-W", "-f", "${Version}", "ejabberd"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "(not known)"
    return done.stdout.strip()
