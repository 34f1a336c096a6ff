"""The processes of a run: writers and relays, told apart by their names."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pubsub.devstack.processes import tied
from tests.waiting import until

PATIENCE = 60.0


class Process:
    """A command of manage.py; it ends with the thread that started it, however that ends.

    :param name: its output is found in ``folder/name.out`` and ``folder/name.err``.
    """

    def __init__(self, name: str, folder: Path, environment: dict[str, str], *words: str) -> None:
        self.name = name
        self._paths = folder / f"{name}.out", folder / f"{name}.err"
        with self._paths[0].open("w") as output, self._paths[1].open("w") as errors:
            self._process = subprocess.Popen(
                tied([sys.executable, "-m", "django", *words]),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is ours to pass on
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return self._paths[0].read_text(encoding="utf-8")

    @property
    def errors(self) -> str:
        return self._paths[1].read_text(encoding="utf-8")

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def until_said(self, text: str) -> None:
        """Wait until it has printed something."""
        until(lambda: text in self.output or not self.is_running, f"{self.name}: {text}", PATIENCE)
        assert text in self.output, f"{self.name} ended ({self.wait()}): {self.errors}"

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self._process.wait(PATIENCE)

    def done(self) -> None:
        """Wait for its end, which has to be a good one."""
        assert self.wait() == 0, f"{self.name} ended with {self.wait()}: {self.errors}"

    def every(self, seconds: float, act: Callable[[], object]) -> None:
        """Do something every so many seconds until it ends, which has to be a good end."""
        while self.is_running:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
                break
            act()
        self.done()

    def tell(self) -> None:
        """Tell it to end."""
        self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Tell it to end, and wait for a good end."""
        self.tell()
        self.done()

    def suspend(self) -> None:
        """Let it stand still."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it, as the kernel does when memory runs out."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def kill_at_once(self) -> None:
        """Kill it without waiting for its end; for who must not wait."""
        os.kill(self.pid, signal.SIGKILL)
