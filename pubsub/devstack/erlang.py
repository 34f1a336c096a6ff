"""ejabberd's Erlang libraries, and our modules for it, which are compiled for them.

Compiling takes a second, and so the outcome is kept for the next stacks of the same user, in
``~/.cache/django-pubsub`` (or ``$XDG_CACHE_HOME``): one file of each module, under its name and a
hash of all that it came from.  What is found there is taken only if nobody else could have written
it.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from pubsub.devstack.errors import StackError
from pubsub.devstack.files import deploy_file

ERLANG_LIBRARIES = (
    "/usr/lib/*/ejabberd-*/ebin/ejabberd.app",
    "/usr/lib/erlang/lib/ejabberd-*/ebin/ejabberd.app",
    "/usr/lib*/ejabberd*/ebin/ejabberd.app",
    "/opt/ejabberd-*/lib/ejabberd-*/ebin/ejabberd.app",
)
GUARD = (
    "mod_pubsub_guard",
    "pubsub_judge",
    "pubsub_logins",
    "pubsub_publisher",
    "pubsub_remains",
    "pubsub_ends",
    "pubsub_tidying",
    "pubsub_refusals",
    "pubsub_guarded",
    "pubsub_stanzas",
    "pubsub_listeners",
)
SESSIONS = (  # and pubsub_stanzas
    "mod_pubsub_sessions",
    "pubsub_requests",
    "pubsub_owners",
    "pubsub_address",
    "pubsub_cluster",
    "pubsub_rows",
    "pubsub_fanout",
    "pubsub_gate",
    "pubsub_backlog",
    "pubsub_outlet",
)


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


def compile_modules(modules: Iterable[str], folder: Path, erlc: str, libraries: str) -> None:
    """Put compiled modules into a folder, from which ``erl -pa`` loads them.

    :param modules: names of modules whose sources are in ``deploy/ejabberd``.
    :param erlc: path of the program.
    :param libraries: what :func:`erlang_libraries` returns.
    :raises StackError: when one cannot be compiled; the message quotes the compiler.
    """
    sources = [deploy_file(f"ejabberd/{module}.erl") for module in modules]
    folder.mkdir(mode=0o700, exist_ok=True)
    keys = {source: _key(source, erlc, libraries) for source in sources}
    kept = {source: _kept(key) for source, key in keys.items()}
    missing = [source for source, beam in kept.items() if beam is None]
    _compile(missing, folder, erlc, libraries)
    for source, content in kept.items():
        beam = folder / f"{source.stem}.beam"
        if content is None:
            _keep(beam, keys[source])
        else:
            # In one step: an ejabberd that is starting in this folder never reads half of it.
            new = beam.with_suffix(".new")
            new.write_bytes(content)
            new.replace(beam)


# Private


def _key(source: Path, erlc: str, libraries: str) -> str:
    """A module's name and what it depends on: its text, the compiler's and ejabberd's files."""
    digest = hashlib.sha256(source.read_bytes())
    headers = sorted(Path(libraries).glob("ejabberd-*/include/*.hrl"))
    for path in (Path(os.path.realpath(erlc)), *headers):
        status = path.stat()
        digest.update(f"{path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return f"{source.stem}-{digest.hexdigest()}"


def _compile(sources: list[Path], folder: Path, erlc: str, libraries: str) -> None:
    if not sources:
        return
    done = subprocess.run(
        [erlc, "+warnings_as_errors", "-o", str(folder), *map(str, sources)],
        env={**os.environ, "ERL_LIBS": libraries},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        raise StackError(
            f"erlc could not compile {', '.join(map(str, sources))} for the ejabberd in "
            f"{libraries}:\n{said}"
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
    """Keep a compiled module for the next time, and nothing older of it."""
    if (folder := _cache()) is None:
        return
    try:
        for old in folder.glob(f"{beam.stem}-*.beam"):
            if old.stem != key:  # another process may have kept the same just now
                old.unlink(missing_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder)
        os.close(descriptor)
        shutil.copyfile(beam, name)
        os.replace(name, folder / f"{key}.beam")
    except OSError:
        pass  # a full disk says so elsewhere
