"""``python -m demo``: ejabberd, nginx and Django together, until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import django
from django.core.management import call_command

from pubsub.devstack import Child, Ports, Stack, StackError, stop_all, until_told_to_end, watch

CHECKOUT = Path(__file__).resolve().parent.parent
CLIENT = CHECKOUT / "media" / "strophe" / "dist" / "pubsub.client.js"
PORTS = Ports(nginx=8080)  # ejabberd's are nobody's business: whatever is free
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never by a proxy
HELP = """\
environment variables:
{ports}
  DEMO_FOLDER  where all its files live (var/demo)
  DEMO_METHOD  threaded or prefork: how Django is served (threaded)
  DEMO_DEBUG   1 shows Django's error pages (0)
  PUBSUB_STACK_SESSIONS  off is --without-sessions (on)
"""


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


def show(name: str, line: str) -> None:
    """Print a line of a process's log under the process's name."""
    say(f"{name:8} | {line}")


def main() -> int:
    """Run the demo.

    :returns: the exit code, 0 if it was told to end.
    """
    arguments = argparse.ArgumentParser(
        prog="python -m demo",
        description="Starts ejabberd, nginx and Django, and stops them on Ctrl-C.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=HELP.format(
            ports="\n".join(
                f"  {Ports.variable(field.name)}  ({getattr(PORTS, field.name) or 'any free one'})"
                for field in fields(Ports)
            )
        ),
    )
    arguments.add_argument(
        "--without-sessions",
        dest="sessions",
        action="store_false",
        default=None,
        help="do without mod_pubsub_sessions, by which ejabberd delivers several times cheaper",
    )
    sessions = arguments.parse_args().sessions
    try:
        with until_told_to_end():
            run(sessions)
    except StackError as error:
        print(f"demo: {error}", file=sys.stderr, flush=True)
        return 1
    say("All stopped.")
    return 0


def run(sessions: bool | None = None) -> None:
    """Start everything, print the address, and keep watch.

    :param sessions: as of ``Stack``.
    :raises StackError: when something does not start, or has ended by itself.
    :raises KeyboardInterrupt: when it is told to end.
    """
    if not CLIENT.is_file():
        raise StackError(f"The browser client {CLIENT} has not been built: run `make client`.")
    folder = Path(os.environ.get("DEMO_FOLDER") or CHECKOUT / "var" / "demo").absolute()
    method = os.environ.get("DEMO_METHOD") or "threaded"
    if method not in {"threaded", "prefork"}:
        raise StackError(f"DEMO_METHOD={method!r} is neither threaded nor prefork.")
    ports = PORTS.from_environment()
    stack = Stack(folder, ports=ports, nginx=True, sessions=sessions, on_line=show)
    say("Starting ejabberd and nginx …")
    with stack:
        site = f"http://127.0.0.1:{stack.ports.nginx}/"
        environment = {name: str(value) for name, value in stack.settings.items()}
        environment |= {"DJANGO_SETTINGS_MODULE": "demo.settings", "DEMO_FOLDER": str(folder)}
        prepare_django(environment)
        say("Starting Django …")
        with serving(stack, environment, method, site) as server:
            say(f"\nThe demo is at {site}\nCtrl-C stops it.\n")
            watch([*stack.children, server])


def prepare_django(environment: Mapping[str, str]) -> None:
    """Bring the database and the static files up to date."""
    os.environ.update(environment)
    django.setup()
    say("Preparing the database …")
    call_command("migrate", interactive=False, verbosity=0)
    say("Collecting the static files …")
    call_command("collectstatic", interactive=False, verbosity=0)


@contextmanager
def serving(
    stack: Stack, environment: Mapping[str, str], method: str, site: str
) -> Iterator[Child]:
    """Serve Django over FastCGI, from when nginx answers with its page."""
    server = Child(
        "django",
        [sys.executable, "-m", "django", "runfcgi", f"method={method}", "daemonize=false"]
        + [f"socket={stack.fastcgi_socket}"],
        folder=CHECKOUT,
        environment={**environment, "PYTHONUNBUFFERED": "1"},
        ready=lambda: (
            stack.fastcgi_socket.is_socket() and answers(site) and answers(f"{site}http-bind")
        ),
        on_line=show,
    )
    try:
        yield server.start()
    finally:
        stop_all([server])


def answers(url: str) -> bool:
    """Whether a page is served.

    :raises StackError: when it is, and is an error.
    """
    try:
        DIRECT.open(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 502:  # nginx: Django does not listen yet
            return False
        raise StackError(f"{url} answers with {error}.") from error
    except OSError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
