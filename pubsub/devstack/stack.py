"""The stack: one folder, one ejabberd, perhaps one nginx, and the settings to reach them."""

from __future__ import annotations

import atexit
import os
import pwd
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from pubsub.devstack import files
from pubsub.devstack.erlang import GUARD, SESSIONS, compile_modules, erlang_libraries
from pubsub.devstack.errors import StackError
from pubsub.devstack.ports import LOOPBACK, Ports
from pubsub.devstack.processes import (
    Child,
    OnLine,
    listening,
    most_open_files,
    stop_all,
    tied,
    with_open_files,
)

__all__ = ["Stack", "tied"]

# And Debian's packages.
PROGRAMS = {"erl": "ejabberd", "erlc": "erlang-base", "openssl": "openssl"}
NGINX = {"nginx": "nginx-light"}
EJABBERD_PORTS = ("xmpp", "xmpp_tls", "http")
PUBLISHER = "django@localhost"
GUEST_DOMAIN = "guests.localhost"
USER_DOMAIN = "users.localhost"
PUBSUB_HOST = "pubsub.localhost"
HTTP_SOCKET = "http.sock"  # in the folder

ACCOUNTS_READY = "pubsub-stack: accounts are ready"
# Reads the accounts from a file: command lines and, to the same user, environments are public.
REGISTER_ACCOUNTS = (
    '{ok, Accounts} = file:consult("accounts"), '
    "[case ejabberd_auth:try_register(User, Host, Password) of"
    " ok -> ok;"
    " {error, exists} -> ok = ejabberd_auth:set_password(User, Host, Password)"
    " end || {User, Host, Password} <- Accounts], "
)

# ejabberd looks whether all files of its applications are there, a thousand of them, for two
# seconds of a processor after its start.  The processes that do so are known by where they are.
CHECK_NO_FILES = (
    "[exit(Process, kill) || Process <- processes(), "
    "{current_stacktrace, Trace} <- [process_info(Process, current_stacktrace)], "
    "lists:any(fun({ejabberd, Function, _, _}) ->"
    ' lists:prefix("-check_app", atom_to_list(Function)); (_) -> false end, Trace)], '
    "lists:foreach(fun erlang:garbage_collect/1, processes()), "  # as it does in the end
)
AFTER_START = f'{REGISTER_ACCOUNTS}{CHECK_NO_FILES}io:format("~s~n", ["{ACCOUNTS_READY}"]).'

# deploy/ejabberd.yml says at its head why, and where they belong in production.
ERLANG_FLAGS = [
    *("+K", "true", "+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"),
    *("+MHlmbcs", "512", "+MBlmbcs", "512", "+MFlmbcs", "512"),
]
ERLANG_ENVIRONMENT = {"ERL_FULLSWEEP_AFTER": "0"}
# An empty folder: to read the translations of its messages is a fifth of ejabberd's start.
MESSAGES = "messages"

NGINX_OUTER = """\
# Written anew at each start: what the system's own nginx.conf would hold around the site.
daemon off;
pid nginx.pid;
error_log stderr warn;
{user}
worker_processes {workers};
worker_rlimit_nofile {files};
events {{ worker_connections 20000; }}
http {{
    access_log {access_log};
    client_body_temp_path nginx-body;
    proxy_temp_path nginx-proxy;
    fastcgi_temp_path nginx-fastcgi;
    uwsgi_temp_path nginx-uwsgi;
    scgi_temp_path nginx-scgi;
    include site.conf;
}}
"""
MOST_WORKERS = 4  # each takes 9 MB for its connections from the start
SOCKET_PATH_BYTES = 107  # what fits into sockaddr_un
SESSIONS_VARIABLE = "PUBSUB_STACK_SESSIONS"


def sessions_wanted() -> bool:
    """Whether stacks load mod_pubsub_sessions, as the environment has it; by default they do.

    :raises StackError: when the variable holds anything but on or off.
    """
    said = os.environ.get(SESSIONS_VARIABLE) or "on"
    if said not in {"on", "off"}:
        raise StackError(f"{SESSIONS_VARIABLE}={said!r} is neither on nor off.")
    return said == "on"


class Stack:
    """A private ejabberd, and nginx if wanted, with everything they keep in one folder.

    Use it as a context manager, from a thread that lives as long as the stack shall: the processes
    end with that thread.

    :param folder: where configuration, passwords, certificate, spool and logs live; made if
        missing.  Starting again in the same folder finds the nodes and accounts of the last time.
    :param ports: which loopback ports to listen on; the default takes free ones.
    :param nginx: start nginx too; it serves BOSH, WebSocket, static files and the FastCGI
        application.
    :param fastcgi_socket: the unix socket of the application behind nginx, ``folder/django.sock``
        if not given.
    :param static_root: the folder that nginx serves as ``/static/``, ``folder/static`` if not
        given.
    :param sessions: load mod_pubsub_sessions, which makes delivery cheaper.  None: unless the
        environment variable ``PUBSUB_STACK_SESSIONS`` is ``off``.
    :param log_level: of ejabberd; at "info" it tells of each visitor who comes and goes.
    :param accounts: more accounts, JID to password; the publisher's is always there.
    :param on_line: called with a prefix ("ejabberd", "nginx") and one line of its log, from a
        thread.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        ports: Ports | None = None,
        nginx: bool = False,
        fastcgi_socket: str | os.PathLike[str] | None = None,
        static_root: str | os.PathLike[str] | None = None,
        sessions: bool | None = None,
        log_level: str = "notice",
        accounts: Mapping[str, str] | None = None,
        on_line: OnLine | None = None,
    ) -> None:
        self.folder = Path(folder).absolute()
        self.wanted_ports = ports or Ports()
        self.ports = self.wanted_ports
        self.with_nginx = nginx
        self.fastcgi_socket = Path(fastcgi_socket or self.folder / "django.sock").absolute()
        self.static_root = Path(static_root or self.folder / "static").absolute()
        self.with_sessions = sessions_wanted() if sessions is None else sessions
        self.log_level = log_level
        self.accounts = dict(accounts or {})
        self.settings: dict[str, Any] = {}
        self._on_line = on_line
        self._ejabberd: Child | None = None
        self._nginx: Child | None = None
        self._resources = ExitStack()

    @property
    def ejabberd(self) -> Child:
        """ejabberd's process: ``stop()``, ``kill()``, ``start()`` again; its spool stays."""
        if self._ejabberd is None:
            raise StackError("The stack has not been started.")
        return self._ejabberd

    @property
    def nginx(self) -> Child:
        """nginx's process, of a stack that was started with it."""
        if self._nginx is None:
            raise StackError("The stack has not been started with nginx.")
        return self._nginx

    @property
    def http_socket(self) -> Path:
        """The unix socket by which nginx reaches ejabberd."""
        return self.folder / HTTP_SOCKET

    @property
    def children(self) -> list[Child]:
        """The processes that have been started."""
        return [child for child in (self._ejabberd, self._nginx) if child is not None]

    def __enter__(self) -> Stack:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Prepare the folder, start ejabberd and then nginx, and wait until both serve.

        :raises StackError: with nothing left running, when something is missing, a port or the
            folder is taken, or a process does not start.
        """
        try:
            self.prepare()
            # All of them before anything runs; each process looks at its own again.
            self._check_ports(*EJABBERD_PORTS, *(["nginx"] if self.with_nginx else []))
            self.ejabberd.start()
            if self._nginx is not None:
                self._nginx.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop what runs, the last started first.  Stopping twice is harmless."""
        atexit.unregister(self.stop)
        try:
            stop_all(reversed(self.children))
        finally:
            self._resources.close()

    def prepare(self) -> None:
        """Do all that ``start()`` does except starting; ``settings`` holds values afterwards.

        :raises StackError: when something is missing, or the folder is taken.
        """
        files.make_folder(self.folder)
        self._resources.enter_context(files.locked(self.folder))
        atexit.register(self.stop)
        programs = files.find_programs(PROGRAMS | (NGINX if self.with_nginx else {}))
        libraries = erlang_libraries()
        modules = (*GUARD, *(SESSIONS if self.with_sessions else ()))
        compile_modules(modules, self.folder / "ebin", programs["erlc"], libraries)
        # Late, for somebody else may take what is free now.
        self.ports = self.wanted_ports.resolved()
        password = files.password(self.folder / "password")
        hosts = ["localhost", GUEST_DOMAIN, USER_DOMAIN, PUBSUB_HOST]
        server_pem, ca_pem = files.certificate(self.folder, hosts, programs["openssl"])
        key = files.jwt_key(self.folder)
        self._ejabberd = self._prepare_ejabberd(programs["erl"], libraries, password, server_pem)
        self._nginx = self._prepare_nginx(programs["nginx"]) if self.with_nginx else None
        http = f"{LOOPBACK}:{self.ports.http}"
        self.settings = {
            "XMPP_JID": PUBLISHER,
            "XMPP_PASSWORD": password,
            "XMPP_HOST": LOOPBACK,
            "XMPP_PORT": self.ports.xmpp,
            "XMPP_CA_FILE": str(ca_pem),
            "XMPP_PUBSUB_HOST": PUBSUB_HOST,
            # Behind nginx the page and its stream have one origin; without, ejabberd is asked
            # directly (it answers BOSH with Access-Control-Allow-Origin: *).
            "PUBSUB_BOSH_URL": "/http-bind" if self.with_nginx else f"http://{http}/http-bind",
            "PUBSUB_WEBSOCKET_URL": "/ws" if self.with_nginx else f"ws://{http}/ws",
            "PUBSUB_GUEST_DOMAIN": GUEST_DOMAIN,
            "PUBSUB_USER_DOMAIN": USER_DOMAIN,
            "PUBSUB_JWT_KEY": key,
            # Django asks ejabberd itself, whatever stands in front of it.
            "PUBSUB_PREBIND_URL": f"http://{http}/http-bind",
        }

    # Private

    def _prepare_ejabberd(self, erl: str, libraries: str, password: str, server_pem: Path) -> Child:
        macros: dict[str, str | int] = {
            "C2S_IP": LOOPBACK,
            "C2S_PORT": self.ports.xmpp,
            "C2S_TLS_PORT": self.ports.xmpp_tls,
            "HTTP_SOCKET": f"unix:{HTTP_SOCKET}",
            "HTTP_IP": LOOPBACK,
            "HTTP_PORT": self.ports.http,
            "CERTIFICATE": server_pem.name,
            "JWT_KEY": files.JWK,
            "LOG_LEVEL": self.log_level,
        }
        shipped = files.deploy_file("ejabberd.yml")
        if not self.with_sessions:
            text = files.without_sessions(shipped.read_text(encoding="utf-8"))
            shipped = self.folder / "shipped.yml"
            files.write_private(shipped, text)
        files.write_private(self.folder / "ejabberd.yml", files.ejabberd_config(macros, shipped))
        accounts = {PUBLISHER: password, **self.accounts}
        (self.folder / MESSAGES).mkdir(mode=0o700, exist_ok=True)
        files.write_private(self.folder / "accounts", files.erlang_accounts(accounts))
        listeners: list[int | str] = [self.ports.http, self.ports.xmpp]
        if self.with_nginx:
            listeners.append(str(self.http_socket))
        return Child(
            "ejabberd",
            # No -sname: without distribution there is no cookie, and no epmd is left behind.
            # Paths are relative to the folder, so none needs Erlang's quoting.
            with_open_files(
                [erl, "-noinput", "-pa", "ebin", "-mnesia", "dir", '"spool"', *ERLANG_FLAGS]
                + ["-s", "ejabberd", "-eval", AFTER_START]
            ),
            folder=self.folder,
            environment={
                **ERLANG_ENVIRONMENT,
                "EJABBERD_CONFIG_PATH": "ejabberd.yml",
                "EJABBERD_LOG_PATH": "ejabberd.log",
                "EJABBERD_MSGS_PATH": MESSAGES,
                "ERL_CRASH_DUMP_BYTES": "0",
                "ERL_LIBS": libraries,
                "HOME": str(self.folder),
            },
            banner=ACCOUNTS_READY,
            ready=lambda: all(map(listening, listeners)),
            before_start=lambda: self._check_ports(*EJABBERD_PORTS),
            on_line=self._on_line,
        )

    def _prepare_nginx(self, nginx: str) -> Child:
        for path in (self.fastcgi_socket, self.http_socket):
            if len(os.fsencode(path)) > SOCKET_PATH_BYTES:
                raise StackError(
                    f"The path of the unix socket {path} is longer than {SOCKET_PATH_BYTES} bytes. "
                    "Choose a shorter folder."
                )
        site = {
            "listen 8080 default_server;": f"listen {LOOPBACK}:{self.ports.nginx} default_server;",
            "listen 8080;": f"listen {LOOPBACK}:{self.ports.nginx};",
            "server_name mysite.org;": f"server_name {LOOPBACK} localhost;",
            "unix:/run/ejabberd/http.sock": files.nginx_quoted(f"unix:{self.http_socket}"),
            "unix:/run/mysite/django.sock": files.nginx_quoted(f"unix:{self.fastcgi_socket}"),
            "/srv/mysite/static/": files.nginx_quoted(f"{self.static_root}/"),
        }
        (self.folder / "site.conf").write_text(files.nginx_site(site), encoding="utf-8")
        # As root, nginx would hand its workers to another user, who could not enter our folder.
        user = "" if os.geteuid() else f"user {pwd.getpwuid(0).pw_name};"
        access_log = "/dev/stdout" if self._on_line else "off"
        workers = min(os.cpu_count() or 1, MOST_WORKERS)
        outer = NGINX_OUTER.format(
            user=user, access_log=access_log, workers=workers, files=most_open_files()
        )
        (self.folder / "nginx.conf").write_text(outer, encoding="utf-8")
        return Child(
            "nginx",
            [nginx, "-e", "stderr", "-p", f"{self.folder}/", "-c", f"{self.folder}/nginx.conf"],
            folder=self.folder,
            ready=lambda: listening(self.ports.nginx),
            before_start=lambda: self._check_ports("nginx"),
            on_line=self._on_line,
        )

    def _check_ports(self, *names: str) -> None:
        for name in names:
            self.ports.check_free(name)
