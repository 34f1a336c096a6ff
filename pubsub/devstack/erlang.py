"""ejabberd's Erlang libraries, and our module for it, which is compiled for them.

Compiling takes most of a second, and so the outcome is kept for the next stacks of the same user,
in ``~/.cache/django-pubsub`` (or ``$XDG_CACHE_HOME``), under a name that is a hash of all that it
came from.  What is found there is taken only if nobody else could have written it.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from pubsub.devstack.errors import StackError
from pubsub.devstack.files import deploy_file

ERLANG_LIBRARIES = (
    "/usr/lib/*/ejabberd-*/ebin/ejabberd.app",
    "/usr/lib/erlang/lib/ejabberd-*/ebin/ejabberd.app",
    "/usr/lib*/ejabberd*/ebin/ejabberd.app",
    "/opt/ejabberd-*/lib/ejabberd-*/ebin/ejabberd.app",
)
GUARD = "mod_pubsub_guard"


def erlang_libraries() -> str:
    """The folder that holds ejabberd's Erlang libraries, for ``ERL_LIBS``.

    :raises StackError: when ejabberd is not installed.
    """
    given = [
        f"{folder}/ejabberd-*/ebin/ejabberd.app"
        for folder in os.environ.get("ERL_LIBS", "").split(os.pathsep)
        if folder
    ]
    for pattern in (*given, *ERLANG_LIBRARIES):
        if found := sorted(glob.glob(pattern)):
            return str(Path(found[-1]).parents[2])
    raise StackError(
        "ejabberd was not found. Install Debian's package ejabberd: apt-get install ejabberd "
        "(ejabberd elsewhere: put the folder that holds ejabberd-*/ebin into ERL_LIBS)."
    )


def compile_guard(folder: Path, erlc: str, libraries: str) -> None:
    """Put the compiled mod_pubsub_guard into a folder, from which ``erl -pa`` loads it.

    :param erlc: path of the program.
    :param libraries: what :func:`erlang_libraries` returns.
    :raises StackError: when it cannot be compiled; the message quotes the compiler.
    """
    source = deploy_file(f"ejabberd/{GUARD}.erl")
    folder.mkdir(mode=0o700, exist_ok=True)
    beam = folder / f"{GUARD}.beam"
    key = _hash(source, erlc, libraries)
    if (kept := _kept(key)) is None:
        _compile(source, folder, erlc, libraries)
        _keep(beam, key)
    else:
        # In one step: an ejabberd that is starting in this folder never reads half of it.
        new = beam.with_suffix(".new")
        new.write_bytes(kept)
        new.replace(beam)


# Private


def _hash(source: Path, erlc: str, libraries: str) -> str:
    """What the compiled module depends on: its text, the compiler's and ejabberd's files."""
    digest = hashlib.sha256(source.read_bytes())
    headers = sorted(Path(libraries).glob("ejabberd-*/include/pubsub.hrl"))
    for path in (Path(os.path.realpath(erlc)), *headers):
        status = path.stat()
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _compile(source: Path, folder: Path, erlc: str, libraries: str) -> None:
    done = subprocess.run(
        [erlc, "+warnings_as_errors", "-o", str(folder), str(source)],
        env={**os.environ, "ERL_LIBS": libraries},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise StackError(
            f"erlc could not compile {source} for the ejabberd in {libraries}:\n{said}"
        )


def _cache() -> Path | None:
    """The user's cache folder, made if it is missing; None if it is not his alone."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(home) if os.path.isabs(home) else Path.home() / ".cache"
        folder = base / "django-pubsub"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except (OSError, RuntimeError):  # read-only, or no home
        return None
    private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    return folder if private and status.st_uid == os.geteuid() else None


def _kept(key: str) -> bytes | None:
    folder = _cache()
    try:
        return None if folder is None else (folder / f"{key}.beam").read_bytes()
    except OSError:
        return None


def _keep(beam: Path, key: str) -> None:
    """Keep a compiled module for the next time, and nothing else."""
    if (folder := _cache()) is None:
        return
    try:
        for old in folder.glob("*.beam"):
            old.unlink(missing_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder)
        os.close(descriptor)
        shutil.copyfile(beam, name)
        os.replace(name, folder / f"{key}.beam")
    except OSError:
        pass  # a full disk says so elsewhere
