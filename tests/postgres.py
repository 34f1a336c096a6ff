"""PostgreSQL for tests: Debian's binaries on a loopback port, with a cluster of the tests' own.

PostgreSQL does not run as root: started by root it runs as the user ``postgres``, in a folder that
he may enter.  What it has committed is safe when it is killed (``synchronous_commit`` is on); not
when the machine loses its power (``fsync`` is off), which no test does.
"""

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psutil
import psycopg

from pubsub.devstack.errors import StackError
from pubsub.devstack.ports import LOOPBACK
from pubsub.devstack.processes import Child

BINARIES = "/usr/lib/postgresql/*/bin/postgres"
USER = "postgres"

#: A cluster that is soon made and soon gone, and keeps each commit when it is killed.
OPTIONS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",
    "shared_buffers": "32MB",
    "log_min_messages": "fatal",
}


def binaries() -> Path:
    """The folder of the newest PostgreSQL's programs.

    :raises StackError: when it is not installed.
    """
    found = sorted(glob.glob(BINARIES), key=lambda path: int(path.split("/")[4]))
    if not found:
        raise StackError(
            "PostgreSQL was not found. Install Debian's package: apt-get install postgresql"
        )
    return Path(found[-1]).parent


def as_server(*command: str) -> list[str]:
    """The command, run by whom PostgreSQL accepts."""
    if os.geteuid():
        return list(command)
    # pdeathsig once more: it is forgotten when the user changes.  SIGQUIT ends it at once, with its
    # children; SIGTERM would wait for its clients.
    changed = ["--reuid", USER, "--regid", USER, "--init-groups"]
    return ["setpriv", *changed, "--pdeathsig", "QUIT", "--", *command]


class Postgres:
    """A PostgreSQL of its own; a context manager, to be entered by a thread that outlives it.

    Its processes end with that thread, however it ends.
    """

    def __init__(self) -> None:
        with socket.create_server((LOOPBACK, 0)) as held:
            self.port: int = held.getsockname()[1]

    def __enter__(self) -> "Postgres":
        # Not in TMPDIR, which may be a folder that only root may enter.
        where = None if os.geteuid() else "/tmp"
        self._folder = Path(tempfile.mkdtemp(prefix="pubsub-postgres-", dir=where))
        try:
            self._make_cluster()
            self._server.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if hasattr(self, "_server"):
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def processes(self) -> list[psutil.Process]:
        """The server and its children."""
        if self._server.process is None:
            return []
        server = psutil.Process(self._server.process.pid)
        return [server, *server.children(recursive=True)]

    def start(self) -> None:
        """Start it again, on the same port, and wait until it answers."""
        self._server.start()

    def stop(self) -> None:
        """End it in order; its clients are told."""
        self._server.stop(signal.SIGINT)

    def kill(self) -> None:
        """Kill it and all its children at once, as a machine does that runs out of memory."""
        processes = self.processes
        for process in processes:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        self._server.kill()
        psutil.wait_procs(processes, timeout=10)

    def restart(self) -> None:
        """Let it end at once, as after a crash of one of its children, and start it again."""
        processes = self.processes
        self._server.kill(sig=signal.SIGQUIT)
        psutil.wait_procs(processes, timeout=10)
        self.start()

    def execute(self, statement: str, database: str = USER) -> None:
        """Run a statement, outside a transaction."""
        with psycopg.connect(**self._address(database), autocommit=True) as connection:
            connection.execute(statement)

    def settings(self, database: str) -> dict[str, Any]:
        """What Django's DATABASES says of a database."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "HOST": LOOPBACK,
            "PORT": self.port,
            "USER": USER,
            "NAME": database,
        }

    # Private

    def _make_cluster(self) -> None:
        if os.geteuid() == 0:
            owner = pwd.getpwnam(USER)
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        data = str(self._folder / "data")
        programs = binaries()
        made = subprocess.run(
            as_server(str(programs / "initdb"), "--no-sync", "--no-locale", "--encoding=UTF8")
            + ["--auth=trust", f"--username={USER}", f"--pgdata={data}"],
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
        )
        if made.returncode:
            raise StackError(f"initdb could not make a cluster: {made.stderr.strip()}")
        options = [f"-c{name}={value}" for name, value in OPTIONS.items()]
        self._server = Child(
            "postgres",
            as_server(str(programs / "postgres"), "-D", data, f"-p{self.port}", *options),
            folder=self._folder,
            ready=self._answers,
        )

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _address(self, database: str) -> dict[str, Any]:
        return {"host": LOOPBACK, "port": self.port, "user": USER, "dbname": database}
