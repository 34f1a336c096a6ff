"""A process that holds a stack until it is told to end.

python -m tests.server.stack_parent FOLDER [PLACE]: with PLACE, root becomes nobody, who then owns
that folder and finds the shipped files in it (a checkout below /root is closed to him).
"""

import os
import shutil
import signal
import sys
import threading
from pathlib import Path

from pubsub.devstack import Stack, files

NOBODY = 65534


def become_nobody(place: Path) -> None:
    "".encode("idna")  # a module that Python would load later, from where nobody cannot read
    shutil.copytree(files.PACKAGE.parent / "deploy", place / "deploy")
    files.PACKAGE = place
    os.chdir(place)
    os.chown(place, NOBODY, NOBODY)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


if __name__ == "__main__":
    if len(sys.argv) > 2 and os.geteuid() == 0:
        become_nobody(Path(sys.argv[2]))
    told = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: told.set())
    with Stack(sys.argv[1], nginx=True) as stack:
        print(*(child.process.pid for child in stack.children if child.process), flush=True)
        told.wait()
