"""The stack of the demo and the tests: started, stopped, restarted, and what goes wrong."""

import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
import threading
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from pubsub.devstack import Ports, Stack, StackError, erlang
from pubsub.devstack import files as stack_files
from pubsub.devstack.files import locked
from tests.waiting import until

PATIENCE = 60.0  # seconds for what takes a few


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of processes that name the folder or work in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text(errors="replace").replace("\0", " ")
            where = (process / "cwd").readlink()
        except OSError:
            continue  # it has just ended, or is somebody else's
        if int(process.name) != os.getpid() and (str(folder) in words or where == folder):
            found.append(f"{process.name} {words}")
    return found


def fetch(url: str, **headers: str) -> tuple[int, str, Any]:
    request = urllib.request.Request(url, headers=headers)
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(request, timeout=PATIENCE) as response:
        return response.status, response.read().decode(), response.headers


def starttls(settings: dict[str, Any]) -> str:
    """Go through verified STARTTLS as Django does, and return the TLS version."""
    address = (settings["XMPP_HOST"], settings["XMPP_PORT"])
    context = ssl.create_default_context(cafile=settings["XMPP_CA_FILE"])
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # Python 3.13's default
    with socket.create_connection(address, timeout=PATIENCE) as stream:
        stream.sendall(
            b"<stream:stream to='localhost' version='1.0' xmlns='jabber:client' "
            b"xmlns:stream='http://etherx.jabber.org/streams'>"
        )
        received = b""
        while b"</stream:features>" not in received:
            received += stream.recv(4096)
        stream.sendall(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
        assert b"<proceed" in stream.recv(4096)
        with context.wrap_socket(stream, server_hostname="localhost") as secure:
            return secure.version() or ""


def test_ejabberd_answers_streams_bosh_and_websocket(stack: Stack) -> None:
    assert starttls(stack.settings) == "TLSv1.3"
    _, _, headers = fetch(stack.settings["PUBSUB_BOSH_URL"], Origin="http://127.0.0.1:8000")
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert stack.settings["PUBSUB_WEBSOCKET_URL"].startswith("ws://127.0.0.1:")
    with socket.create_connection(("127.0.0.1", stack.ports.http), timeout=PATIENCE) as page:
        page.sendall(
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Origin: http://127.0.0.1:8000\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n"
        )
        assert page.recv(4096).startswith(b"HTTP/1.1 101")


def test_secrets_are_its_owners_alone(stack: Stack) -> None:
    for name in ("password", "accounts", "server.pem", "ejabberd.yml", "jwt.key", "jwt.jwk"):
        assert stat.S_IMODE((stack.folder / name).stat().st_mode) == 0o600, name
    ejabberd = stack.ejabberd.process
    assert ejabberd is not None
    secret = stack.settings["XMPP_PASSWORD"].encode()
    assert len(secret) >= 32
    for name in ("cmdline", "environ"):
        assert secret not in Path(f"/proc/{ejabberd.pid}/{name}").read_bytes()


def test_ejabberd_may_open_more_files_than_who_started_it(stack: Stack) -> None:
    assert stack.ejabberd.process is not None
    server = psutil.Process(stack.ejabberd.process.pid)
    soft, hard = server.rlimit(psutil.RLIMIT_NOFILE)
    assert soft == min(hard, 65_536)


def test_nginx_serves_every_part(private_stack: Any, tmp_path: Path) -> None:
    static = tmp_path / "collected"
    static.mkdir()
    (static / "a.mjs").write_text("export {}")
    (static / "a.0123456789ab.js").write_text("1")
    lines: list[tuple[str, str]] = []
    stack = private_stack(
        nginx=True,
        static_root=static,
        log_level="info",
        on_line=lambda *line: lines.append(line),
    )
    site = f"http://127.0.0.1:{stack.ports.nginx}"
    status, body, headers = fetch(f"{site}/static/a.mjs")
    assert (status, body, headers["Content-Type"]) == (
        200,
        "export {}",
        "text/javascript",
    )
    assert headers["Cache-Control"] == "no-cache"
    _, _, headers = fetch(f"{site}/static/a.0123456789ab.js")
    assert "immutable" in headers["Cache-Control"]
    assert fetch(f"{site}{stack.settings['PUBSUB_BOSH_URL']}")[0] == 200
    with pytest.raises(urllib.error.HTTPError, match="502") as gateway:
        fetch(site)  # nobody serves the FastCGI socket
    gateway.value.close()
    until(lambda: any("GET / HTTP" in line for _, line in lines), "the access log")
    assert {prefix for prefix, _ in lines} == {"ejabberd", "nginx"}


def test_a_second_start_keeps_password_and_spool(tmp_path: Path) -> None:
    with Stack(tmp_path / "s") as first:
        password = first.settings["XMPP_PASSWORD"]
        authority = Path(first.settings["XMPP_CA_FILE"]).read_text()
    with Stack(tmp_path / "s", log_level="info") as second:
        assert second.settings["XMPP_PASSWORD"] == password
        assert Path(second.settings["XMPP_CA_FILE"]).read_text() == authority
        assert not any("Creating Mnesia disc" in line for line in second.ejabberd.lines)
    until(lambda: processes_of(tmp_path / "s") == [], "the end of all processes")


def test_blanks_and_accents_may_be_in_a_folders_name(tmp_path: Path) -> None:
    # Without sessions, for then ejabberd includes a file of this folder.
    with Stack(tmp_path / "Käse à la carte", nginx=True, sessions=False) as stack:
        assert starttls(stack.settings)
        assert fetch(f"http://127.0.0.1:{stack.ports.nginx}/http-bind")[0] == 200


def test_a_folder_that_ejabberd_cannot_use_is_named(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"漢字' cannot be used: .*Latin-1"):
        Stack(tmp_path / "漢字").start()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StackError, match=r"file/s cannot be used: Not a directory"):
        Stack(tmp_path / "file" / "s").start()


def test_ejabberd_comes_back_on_its_port_after_being_killed(private_stack: Any) -> None:
    stack = private_stack()
    stack.ejabberd.kill()
    with pytest.raises(ConnectionRefusedError):
        starttls(stack.settings)
    stack.ejabberd.start()
    assert starttls(stack.settings)


def test_a_taken_port_is_named_with_its_variable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=f"{port}.*: Address already.*PUBSUB_STACK_HTTP_PORT"):
            Stack(tmp_path / "s", ports=Ports(http=port)).start()
        both = Stack(tmp_path / "s", nginx=True, ports=Ports(nginx=port))
        with pytest.raises(StackError, match=f"{port}.*PUBSUB_STACK_NGINX_PORT"):
            both.start()
        assert both.ejabberd.process is None  # nothing was started in vain
    until(lambda: processes_of(tmp_path / "s") == [], "the end of all processes")


def test_ports_come_from_the_environment() -> None:
    ports = Ports(nginx=8080).from_environment({"PUBSUB_STACK_XMPP_PORT": "15999"})
    assert ports == Ports(xmpp=15999, nginx=8080)
    with pytest.raises(StackError, match="PUBSUB_STACK_HTTP_PORT='http'"):
        Ports().from_environment({"PUBSUB_STACK_HTTP_PORT": "http"})


def test_two_stacks_do_not_share_a_folder(stack: Stack) -> None:
    with pytest.raises(StackError, match=f"process {os.getpid()}.*{stack.folder}"):
        Stack(stack.folder).start()
    assert starttls(stack.settings)


def test_a_missing_program_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(stack_files, "SBIN", ())
    with pytest.raises(StackError, match="apt-get install ejabberd erlang-base openssl nginx"):
        Stack(tmp_path / "s", nginx=True).start()


def test_a_child_that_does_not_start_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = stack_files.deploy_file("ejabberd.yml")
    shutil.copytree(shipped.parent, tmp_path / "deploy")
    broken = tmp_path / "deploy" / "ejabberd.yml"
    broken.write_text(shipped.read_text().replace("mod_ping: {}", "mod_pong: {}"))
    monkeypatch.setattr(stack_files, "PACKAGE", tmp_path)
    with pytest.raises(StackError, match=r"(?s)ejabberd did not start.*mod_pong"):
        Stack(tmp_path / "s").start()
    until(lambda: processes_of(tmp_path / "s") == [], "the end of all processes")


def test_a_module_is_compiled_once_for_all_stacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(stack_files, "PACKAGE", tmp_path)
    sources = tmp_path / "deploy" / "ejabberd"
    sources.mkdir(parents=True)
    for name in ("one", "two"):
        (sources / f"{name}.erl").write_text(f"-module({name}).\n")
    programs = stack_files.find_programs({"erlc": "erlang-base", "false": "coreutils"})
    libraries = erlang.erlang_libraries()

    def compiled(folder: str, erlc: str = "erlc") -> dict[str, bytes]:
        erlang.compile_modules(("one", "two"), tmp_path / folder, programs[erlc], libraries)
        return {beam.stem: beam.read_bytes() for beam in (tmp_path / folder).iterdir()}

    def kept() -> dict[str, Path]:
        files = (tmp_path / "cache" / "django-pubsub").iterdir()
        return {file.name.partition("-")[0]: file for file in files}

    compiled("first")
    before = kept()
    marked = {name: file.read_bytes() + b"taken from the cache" for name, file in before.items()}
    for name, file in before.items():
        file.write_bytes(marked[name])
    assert compiled("second") == marked
    # Of a module that has changed the old outcome goes; that of the other one stays.
    (sources / "two.erl").write_text("-module(two).\n-export([f/0]).\nf() -> ok.\n")
    third = compiled("third")
    assert third["one"] == marked["one"]
    assert third["two"] != marked["two"]
    assert len(list((tmp_path / "cache" / "django-pubsub").iterdir())) == 2
    assert kept()["two"] != before["two"]
    # Another compiler is asked, and a folder in which others may write is not believed.
    with pytest.raises(StackError, match="erlc could not compile"):
        compiled("fourth", "false")
    before["one"].parent.chmod(0o770)
    assert compiled("fifth")["one"] != marked["one"]


@pytest.mark.parametrize(
    ("option", "variable", "is_on"),
    [(None, "", True), (None, "on", True), (None, "off", False)]
    + [(True, "off", True), (False, "on", False)],
)
def test_sessions_are_loaded_as_the_argument_or_else_the_environment_says(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: bool | None,
    variable: str,
    is_on: bool,
) -> None:
    monkeypatch.setenv("PUBSUB_STACK_SESSIONS", variable)
    stack = Stack(tmp_path / "s", sessions=option)
    assert stack.with_sessions is is_on
    stack.prepare()
    stack.stop()
    (included,) = json.loads((tmp_path / "s" / "ejabberd.yml").read_text())["include_config_file"]
    assert ("mod_pubsub_sessions:" in Path(included).read_text()) is is_on
    beams = {beam.stem for beam in (tmp_path / "s" / "ebin").glob("*.beam")}
    assert beams == {*erlang.GUARD, *(erlang.SESSIONS if is_on else ())}


def test_what_is_neither_on_nor_off_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBSUB_STACK_SESSIONS", "no")
    with pytest.raises(StackError, match="PUBSUB_STACK_SESSIONS='no' is neither on nor off"):
        Stack(tmp_path / "s")


def test_a_shipped_file_whose_block_of_sessions_is_not_marked_is_refused() -> None:
    shipped = stack_files.deploy_file("ejabberd.yml").read_text()
    without = stack_files.without_sessions(shipped)
    assert without.count("\n") < shipped.count("\n")
    for broken in (without, shipped.replace("# sessions: end", ""), f"{shipped}{shipped}"):
        with pytest.raises(StackError, match="between the comments"):
            stack_files.without_sessions(broken)


def test_what_erlc_says_of_a_broken_guard_is_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = tmp_path / "deploy" / "ejabberd" / "mod_pubsub_guard.erl"
    guard.parent.mkdir(parents=True)
    guard.write_text("-module(mod_pubsub_guard).\nstart(Host) -> Hots.\n")
    for part in erlang.GUARD[1:]:
        shutil.copy(stack_files.deploy_file(f"ejabberd/{part}.erl"), guard.parent)
    monkeypatch.setattr(stack_files, "PACKAGE", tmp_path)
    with pytest.raises(StackError, match=r"(?s)erlc could not compile .*'Hots' is unbound"):
        Stack(tmp_path / "s", sessions=False).start()


def test_ejabberd_does_not_start_with_half_a_guard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = tuple(module for module in erlang.GUARD if module != "pubsub_judge")
    monkeypatch.setattr("pubsub.devstack.stack.GUARD", parts)
    stack = Stack(tmp_path / "s", sessions=False)
    try:
        with pytest.raises(StackError, match=r"ejabberd did not start: .*mod_pubsub_guard"):
            stack.start()
    finally:
        stack.stop()


def test_a_shipped_file_that_lost_a_literal_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, lost in (("nginx.conf", "listen 8080;"), ("ejabberd.yml", "  'HTTP_PORT': 5280")):
        shipped = stack_files.deploy_file(name).read_text()
        (tmp_path / "deploy").mkdir(exist_ok=True)
        (tmp_path / "deploy" / name).write_text(shipped.replace(lost, ""))
    monkeypatch.setattr(stack_files, "PACKAGE", tmp_path)
    with pytest.raises(StackError, match="HTTP_PORT"):
        stack_files.ejabberd_config(
            dict.fromkeys(
                ["C2S_IP", "C2S_PORT", "C2S_TLS_PORT", "HTTP_IP", "HTTP_PORT", "CERTIFICATE"]
                + ["JWT_KEY"],
                "",
            ),
            stack_files.deploy_file("ejabberd.yml"),
        )
    with pytest.raises(StackError, match="listen 8080;"):
        stack_files.nginx_site({"listen 8080;": "listen 1;"})


def test_a_unix_socket_path_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="107 bytes"):
        Stack(tmp_path / ("long" * 30), nginx=True).start()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_the_process_that_holds_the_stack(tmp_path: Path, signum: int) -> None:
    folder = tmp_path / "s"
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.server.stack_parent", str(folder)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    with parent:
        pids = parent.stdout.readline().split()
        seen = processes_of(folder)
        parent.send_signal(signum)
        parent.wait(PATIENCE)
    assert len(pids) == 2
    assert len(seen) >= 3
    until(lambda: processes_of(folder) == [], "the end of all processes")
    with locked(folder):
        pass  # it held the lock, and holds it no more


def test_it_ends_with_the_thread_that_started_it(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "s")
    thread = threading.Thread(target=stack.start)
    thread.start()
    thread.join()
    until(lambda: not stack.ejabberd.running(), "the end of ejabberd")
    stack.stop()


def test_it_works_without_root() -> None:
    # Run by an ordinary user every test shows this; run by root, the parent becomes nobody first.
    with tempfile.TemporaryDirectory() as place:
        parent = subprocess.Popen(
            [sys.executable, "-m", "tests.server.stack_parent", f"{place}/s", place],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with parent:
            assert parent.stdout is not None
            pids = parent.stdout.readline().split()
            parent.terminate()
            _, errors = parent.communicate(timeout=PATIENCE)
        assert (len(pids), parent.returncode) == (2, 0), errors
