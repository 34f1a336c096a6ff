"""``manage.py runfcgi``: serve the site over FastCGI, SCGI or AJP through flup.

The options bear the names of the command that Django had up to version 1.8.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import sys
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TextIO

from django.core.management.base import BaseCommand, CommandError
from django.core.servers.basehttp import get_internal_wsgi_application

from pubsub.management.commands._fastcgi import PROTOCOLS, make_server

METHODS = {"threaded": False, "thread": False, "prefork": True, "fork": True}
WORDS = {"true": True, "yes": True, "t": True, "1": True} | {
    "false": False,
    "no": False,
    "f": False,
    "0": False,
}


def number(text: str) -> int:
    """The value of an option that counts something."""
    if text.isascii() and text.isdigit():
        return int(text)
    raise ValueError("a whole number, 0 or more, is wanted")


def octal(text: str) -> int:
    """The value of an option that holds permissions, such as 007."""
    if text and set(text) <= set("01234567"):
        return int(text, 8)
    raise ValueError("an octal number such as 007 is wanted")


def boolean(text: str) -> bool:
    """The value of an option that is on or off."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    raise ValueError("true or false is wanted")


def one_of(*choices: str) -> Callable[[str], str]:
    """A function that reads an option with fixed choices."""

    def choose(text: str) -> str:
        if text in choices:
            return text
        raise ValueError(f"one of {', '.join(choices)} is wanted")

    return choose


# name: (how its value is read, its default, its line of help)
OPTIONS: dict[str, tuple[Callable[[str], Any], Any, str]] = {
    "protocol": (one_of(*PROTOCOLS), "fcgi", "fcgi, scgi or ajp (default: fcgi)"),
    "host": (str, None, "address to listen on (default: 127.0.0.1)"),
    "port": (number, None, "port to listen on"),
    "socket": (str, None, "unix socket to listen on, instead of host and port"),
    "method": (one_of(*METHODS), "threaded", "threaded or prefork (default: threaded)"),
    "minspare": (number, 2, "idle threads or processes to keep at least (default: 2)"),
    "maxspare": (number, 5, "idle threads or processes to keep at most (default: 5)"),
    "maxchildren": (number, 50, "threads or processes at most (default: 50)"),
    "maxrequests": (number, 0, "requests until a process is replaced; prefork only (0: never)"),
    "daemonize": (boolean, None, "go to the background (default: true with a socket or port)"),
    "pidfile": (str, None, "file for the id of the serving process"),
    "workdir": (str, "/", "working directory in the background (default: /)"),
    "umask": (octal, None, "octal: permissions to withhold, as in umask=007"),
    "outlog": (str, os.devnull, "file for standard output in the background"),
    "errlog": (str, os.devnull, "file for standard error in the background"),
    "debug": (boolean, False, "show a traceback when the WSGI application itself fails"),
}  # fmt: skip


class Command(BaseCommand):
    help = "Serves the site over FastCGI, SCGI or AJP, for a web server such as nginx."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "pairs", nargs="*", metavar="key=value", help="any option below as key=value; or: help"
        )
        for name, (_, _, line) in OPTIONS.items():
            parser.add_argument(f"--{name}", help=line)

    def handle(self, *args: Any, pairs: list[str], **given: Any) -> None:
        if "help" in pairs:
            self.print_help("manage.py", "runfcgi")
            return
        # flup listens to these only while it serves; before, and in the handlers at exit, they
        # end the process as cleanly.
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            self.open_and_serve(read_options(pairs, given))

    def open_and_serve(self, options: dict[str, Any]) -> None:
        """Open all that can fail while the terminal still sees it, then serve until told to end."""
        application = get_internal_wsgi_application()
        with ExitStack() as cleanup:
            listener, where = open_listener(options, cleanup)
            log = open_background_files(options, cleanup) if options["daemonize"] else None
            pidfile = open_pidfile(options, cleanup)
            self.stdout.write(f"Serving {where}{' in the background' if log else ''}.")
            self.stdout.flush()
            if log:
                go_to_background(options, log)
            serving = os.getpid()
            if pidfile:
                pidfile.truncate(0)
                pidfile.write(f"{serving}\n")
                pidfile.flush()
            try:
                self.serve(application, listener, options)
            finally:
                if os.getpid() != serving:
                    cleanup.pop_all()  # a preforked child ends; the files are its parent's

    def serve(self, application: Any, listener: socket.socket, options: dict[str, Any]) -> None:
        """Answer requests until a signal ends it."""
        make_server(
            application,
            listener,
            protocol=options["protocol"],
            prefork=METHODS[options["method"]],
            min_spare=options["minspare"],
            max_spare=options["maxspare"],
            max_children=options["maxchildren"],
            max_requests=options["maxrequests"],
            debug=options["debug"],
        ).run()


def read_options(pairs: list[str], given: dict[str, Any]) -> dict[str, Any]:
    """Every option's value, from ``key=value`` words and ``--key value`` arguments.

    :raises CommandError: that names what is unknown, malformed or contradictory.
    """
    texts = {name: given[name] for name in OPTIONS if given.get(name) is not None}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if name not in OPTIONS:
            known = ", ".join(OPTIONS)
            raise CommandError(f"Unknown option {name!r} in {pair!r}. The options are: {known}.")
        texts[name] = value if equals else "true"
    options = {name: default for name, (_, default, _) in OPTIONS.items()}
    for name, text in texts.items():
        try:
            options[name] = OPTIONS[name][0](str(text))
        except ValueError as error:
            raise CommandError(f"{name}={text}: {error}.") from None
    check_options(options)
    return options


def check_options(options: dict[str, Any]) -> None:
    """Judge the options together; settles ``host`` and ``daemonize``.

    :raises CommandError: when they contradict each other.
    """
    if options["socket"] and (options["host"] or options["port"]):
        raise CommandError("Give either socket=… or host=… and port=…, not both.")
    if options["socket"] and options["protocol"] == "ajp":
        raise CommandError("protocol=ajp needs host=… and port=…; flup has no AJP on unix sockets.")
    if options["host"] and not options["port"]:
        raise CommandError(f"host={options['host']} needs port=… too.")
    if options["port"] is not None and not 0 < options["port"] < 65536:
        raise CommandError(f"port={options['port']}: a port number is wanted (1 to 65535).")
    if not 1 <= options["minspare"] <= options["maxspare"] <= options["maxchildren"]:
        raise CommandError(
            "1 <= minspare <= maxspare <= maxchildren is wanted, not "
            f"{options['minspare']}, {options['maxspare']} and {options['maxchildren']}."
        )
    if options["maxrequests"] and not METHODS[options["method"]]:
        raise CommandError("maxrequests=… counts a process's requests: it needs method=prefork.")
    if options["port"]:
        options["host"] = options["host"] or "127.0.0.1"
    if options["daemonize"] is None:
        options["daemonize"] = bool(options["socket"] or options["port"])


def open_listener(options: dict[str, Any], cleanup: ExitStack) -> tuple[socket.socket, str]:
    """The socket to accept from, and what to call it.

    :param cleanup: takes the socket away again.
    :raises CommandError: when it cannot be had.
    """
    if options["socket"]:
        path = Path(options["socket"]).absolute()
        return open_unix_listener(path, options["umask"], cleanup), f"the unix socket {path}"
    if options["port"]:
        address = (options["host"], options["port"])
        family = socket.AF_INET6 if ":" in options["host"] else socket.AF_INET
        try:
            listener = socket.create_server(address, family=family, backlog=socket.SOMAXCONN)
        except OSError as error:
            raise CommandError(f"Cannot listen on {address[0]}:{address[1]}: {error}") from error
        return cleanup.enter_context(listener), f"{address[0]}:{address[1]}"
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        raise CommandError(
            "Give socket=… or host=… and port=…; without, standard input must be a socket "
            "to listen on, as web servers give it to a program that they start."
        )
    return cleanup.enter_context(socket.socket(fileno=os.dup(0))), "the socket of standard input"


def open_unix_listener(path: Path, umask: int | None, cleanup: ExitStack) -> socket.socket:
    """A unix socket to accept from, with the permissions that ``umask`` leaves it."""
    listener = cleanup.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    remove_stale(path)
    previous = os.umask(umask) if umask is not None else None
    try:
        listener.bind(str(path))
    except OSError as error:
        raise CommandError(f"Cannot listen on the unix socket {path}: {error}") from error
    finally:
        if previous is not None:
            os.umask(previous)
    cleanup.callback(remove_own, path, path.stat().st_ino)
    listener.listen(socket.SOMAXCONN)
    return listener


def remove_own(path: Path, inode: int) -> None:
    """Remove a unix socket unless another server has put its own there in the meantime."""
    if path.exists() and path.stat().st_ino == inode:
        path.unlink()


def remove_stale(path: Path) -> None:
    """Remove a unix socket that nobody listens on.

    :raises CommandError: for a socket that somebody listens on, and for any other file.
    """
    if not path.exists():
        return
    if not path.is_socket():
        raise CommandError(f"{path} exists and is not a socket. Remove it, or choose another path.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        except OSError as error:
            raise CommandError(f"Cannot use the unix socket {path}: {error}") from error
        else:
            raise CommandError(f"Another process is listening on the unix socket {path}.")


def open_for_append(name: str, path: str, cleanup: ExitStack) -> TextIO:
    """The file that an option names, opened before the terminal is left.

    :raises CommandError: when it cannot be written.
    """
    try:
        return cleanup.enter_context(Path(path).absolute().open("a", encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"{name}={path} cannot be written: {error.strerror}.") from error


def open_background_files(options: dict[str, Any], cleanup: ExitStack) -> tuple[TextIO, TextIO]:
    """The files for standard output and standard error in the background."""
    if not Path(options["workdir"]).is_dir():
        raise CommandError(f"workdir={options['workdir']} is not a folder.")
    return (
        open_for_append("outlog", options["outlog"], cleanup),
        open_for_append("errlog", options["errlog"], cleanup),
    )


def open_pidfile(options: dict[str, Any], cleanup: ExitStack) -> TextIO | None:
    """The file for the process's id, if one is wanted; ``cleanup`` removes it."""
    if not options["pidfile"]:
        return None
    pidfile = open_for_append("pidfile", options["pidfile"], cleanup)
    cleanup.callback(Path(pidfile.name).unlink, missing_ok=True)
    return pidfile


def go_to_background(options: dict[str, Any], log: tuple[TextIO, TextIO]) -> None:
    """Leave the terminal: return in a process of a session of its own, with its own output."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():  # not the leader of the session: no terminal can become ours again
        os._exit(0)
    os.chdir(options["workdir"])
    os.umask(0o022 if options["umask"] is None else options["umask"])
    sys.stdout.flush()
    sys.stderr.flush()
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(log[0].fileno(), 1)
    os.dup2(log[1].fileno(), 2)
