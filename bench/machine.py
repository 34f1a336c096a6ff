"""What is measured with: the versions that a table is worth nothing without."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from importlib.metadata import version

from pubsub.devstack import StackError
from tests.postgres import binaries

UNKNOWN = "(not known)"


def versions() -> dict[str, str]:
    """Name → version of all that the figures depend on."""
    return {
        "Python": platform.python_version(),
        "Django": version("Django"),
        "xmpppy": version("xmpppy"),
        "ejabberd": package_version("ejabberd"),
        "nginx": package_version("nginx-common"),
        "nchan": package_version("libnginx-mod-nchan"),
        "Redis": package_version("redis-server"),
        "Chromium": package_version("chromium"),
        "PostgreSQL": postgres_version(),
        "SQLite": sqlite3.sqlite_version,
        "CPUs": str(os.cpu_count()),
    }


def package_version(name: str) -> str:
    """The version of one of Debian's packages, or that it is not known."""
    return said("dpkg-query", "-W", "-f", "${Version}", name)


def postgres_version() -> str:
    """The version of the PostgreSQL that would be started, or that it is not known."""
    try:
        program = binaries() / "postgres"
    except StackError:
        return UNKNOWN
    _, _, version = said(str(program), "--version").partition("(PostgreSQL) ")
    return version.partition(" ")[0] or UNKNOWN


def said(*command: str) -> str:
    """What a program prints, or that it is not known."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN
    return done.stdout.strip()
