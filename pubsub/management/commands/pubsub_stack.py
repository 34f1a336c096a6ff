"""``manage.py pubsub_stack``: a private ejabberd, and nginx if wanted, to develop with."""

from __future__ import annotations

import os
from argparse import ArgumentParser
from dataclasses import fields, replace
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from pubsub.devstack import (
    SESSIONS_VARIABLE,
    Ports,
    Stack,
    StackError,
    until_told_to_end,
    watch,
)

# Fixed ones, so that the settings stay true from one day to the next; none is a system service's.
PORTS = Ports(xmpp=25222, xmpp_tls=25223, http=25280, nginx=8080)
PURPOSES = {
    "xmpp": "Django's stream (STARTTLS)",
    "xmpp_tls": "Django's stream (direct TLS)",
    "http": "BOSH and WebSocket",
    "nginx": "the site, with --nginx",
}


class Command(BaseCommand):
    help = (
        "Starts a private ejabberd on this machine's loopback, configured for django-pubsub, and "
        "prints the settings that reach it. With --nginx, nginx stands in front. Ctrl-C ends it."
    )
    requires_system_checks = []  # the settings that they ask for are what this prints

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--folder",
            default=".pubsub_stack",
            help="where all its files live (default: %(default)s in the working directory)",
        )
        parser.add_argument("--nginx", action="store_true", help="start nginx too")
        parser.add_argument(
            "--fastcgi-socket",
            help="with --nginx: the socket of runfcgi (default: django.sock in the folder)",
        )
        parser.add_argument(
            "--static-root",
            help="with --nginx: what is served as /static/ (default: static in the folder)",
        )
        parser.add_argument(
            "--without-sessions",
            dest="sessions",
            action="store_false",
            default=None,
            help="do without mod_pubsub_sessions, by which ejabberd delivers several times cheaper "
            f"(default: the environment variable {SESSIONS_VARIABLE}, on or off, or else on)",
        )
        for field in fields(Ports):
            parser.add_argument(
                f"--{field.name.replace('_', '-')}-port",
                type=int,
                metavar="PORT",
                help=f"port of {PURPOSES[field.name]}; 0: any free one (default: the environment "
                f"variable {Ports.variable(field.name)}, or else {getattr(PORTS, field.name)})",
            )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with until_told_to_end(), self.make_stack(options) as stack:
                self.stdout.write(self.instructions(stack))
                self.stdout.flush()
                watch(stack.children)
        except StackError as error:
            raise CommandError(str(error)) from error
        self.stdout.write("Stopped.")

    def make_stack(self, options: dict[str, Any]) -> Stack:
        """The stack that the options describe, not started yet."""
        given = {field.name: options[f"{field.name}_port"] for field in fields(Ports)}
        for name, port in given.items():
            if port is not None and not 0 <= port < 65536:
                raise CommandError(f"--{name.replace('_', '-')}-port {port} is not a port number.")
        ports = replace(
            PORTS.from_environment(),
            **{name: port for name, port in given.items() if port is not None},
        )
        self.stdout.write(f"Starting ejabberd{' and nginx' if options['nginx'] else ''} …")
        self.stdout.flush()
        return Stack(
            options["folder"],
            ports=ports,
            nginx=options["nginx"],
            fastcgi_socket=options["fastcgi_socket"],
            static_root=options["static_root"],
            sessions=options["sessions"],
            on_line=self.show,
        )

    def show(self, name: str, line: str) -> None:
        """Print a line of a server's log under the server's name."""
        self.stdout.write(f"{name:8} | {line}")
        self.stdout.flush()

    def instructions(self, stack: Stack) -> str:
        """What a person does next: the settings, and how nginx reaches Django."""
        lines = ["", "# Ready. Put these into the settings of your project:"]
        lines += [f"{name} = {value!r}" for name, value in stack.settings.items()]
        if stack.with_nginx:
            socket = os.path.relpath(stack.fastcgi_socket)
            lines += [
                f"STATIC_ROOT = {str(stack.static_root)!r}",
                "",
                f"# nginx serves http://127.0.0.1:{stack.ports.nginx}/ once these have run:",
                "#     manage.py collectstatic",
                f"#     manage.py runfcgi socket={socket} daemonize=false",
            ]
        return "\n".join([*lines, "", ""])
