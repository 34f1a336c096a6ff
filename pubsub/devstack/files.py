"""The files of a stack's folder: its lock, password, keys, certificate and configuration."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pubsub.devstack.errors import StackError

PACKAGE = Path(__file__).resolve().parent.parent
JWK = "jwt.jwk"
#: What stands around the block of mod_pubsub_sessions in deploy/ejabberd.yml.
SESSIONS_BLOCK = re.compile(r"^ *# sessions: begin\n.*?^ *# sessions: end\n", re.M | re.S)
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # not on an ordinary user's PATH in Debian


def deploy_file(name: str) -> Path:
    """The path of a shipped file of ``deploy/``: from the wheel, or from the checkout.

    :raises StackError: when it is in neither.
    """
    for folder in (PACKAGE / "deploy", PACKAGE.parent / "deploy"):
        if (folder / name).is_file():
            return folder / name
    raise StackError(f"deploy/{name} is missing beside {PACKAGE}: install django-pubsub again.")


def find_programs(packages: Mapping[str, str]) -> dict[str, str]:
    """The paths of programs.

    :param packages: Debian's package of each program.
    :returns: the path of each program.
    :raises StackError: that names all that are missing, and how to install them.
    """
    path = os.pathsep.join(filter(None, (os.environ.get("PATH"), *SBIN)))
    found = {name: shutil.which(name, path=path) for name in packages}
    if missing := [name for name, where in found.items() if where is None]:
        needed = " ".join(packages[name] for name in missing)
        raise StackError(
            f"Not found: {', '.join(missing)}. Install Debian's packages: apt-get install {needed}"
        )
    return {name: where for name, where in found.items() if where is not None}


def make_folder(folder: Path) -> None:
    """Make a stack's folder, which is its owner's alone and nothing for git, if it is missing.

    :raises StackError: when it cannot be made or written to, and for what ejabberd cannot take.
    """
    if not str(folder).isprintable() or max(str(folder)) > "\xff":
        # ejabberd 23.01 would start, without its certificate.
        raise StackError(
            f"The folder {str(folder)!r} cannot be used: ejabberd takes no letters beyond Latin-1 "
            "in its path. Choose another one."
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / ".gitignore").write_text("*\n", encoding="utf-8")
    except OSError as error:
        raise StackError(
            f"The folder {folder} cannot be used: {error.strerror}. Choose another one."
        ) from error


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process while the block runs.

    :raises StackError: when another process has it.
    """
    # The descriptor is not inherited by children: the lock ends with this process, however.
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise StackError(
                f"Another stack (process {lock.read().strip() or 'unknown'}) is running in "
                f"{folder}. Stop it, or choose another folder."
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def write_private(path: Path, content: str) -> None:
    """Write a file that only its owner can read, in one step: readers never see half of it."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    new.rename(path)


def password(path: Path) -> str:
    """The password kept in a file; a random one is made the first time."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32) + "\n")
    return path.read_text(encoding="utf-8").strip()


def jwt_key(folder: Path) -> str:
    """The secret that signs tokens (``jwt.key``), the same as a JWK for ejabberd beside it."""
    secret = password(folder / "jwt.key")
    k = base64.urlsafe_b64encode(secret.encode()).rstrip(b"=").decode()
    write_private(folder / JWK, json.dumps({"kty": "oct", "k": k}) + "\n")
    return secret


def certificate(folder: Path, hosts: list[str], openssl: str) -> tuple[Path, Path]:
    """A certificate for the hosts, kept in the folder and made anew before it ends.

    It is its own authority: whoever trusts the second file verifies a server that has the first.

    :param openssl: path of the program.
    :returns: two PEM files: key and certificate, and the certificate alone.
    :raises StackError: when openssl fails.
    """
    server, authority = folder / "server.pem", folder / "ca.pem"
    if server.exists() and authority.exists():
        # 86,400 seconds: a certificate that ends within the day is made anew.
        check = [openssl, "x509", "-noout", "-checkend", "86400", "-in", str(authority)]
        if subprocess.run(check, capture_output=True, check=False).returncode == 0:
            return server, authority
    names = ",".join([*(f"DNS:{host}" for host in hosts), "IP:127.0.0.1"])
    made = subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
        + ["-nodes", "-subj", "/CN=localhost", "-days", "3650", "-keyout", "-"]
        + ["-addext", f"subjectAltName={names}"]
        # Python 3.13 verifies strictly: an authority without this key usage is refused.
        + ["-addext", "keyUsage=critical,digitalSignature,keyCertSign"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise StackError(f"openssl could not make a certificate: {made.stderr.strip()}")
    write_private(server, made.stdout)
    write_private(authority, made.stdout[made.stdout.index("-----BEGIN CERTIFICATE-----") :])
    return server, authority


def without_sessions(shipped: str) -> str:
    """The text of deploy/ejabberd.yml without mod_pubsub_sessions.

    :raises StackError: when the module's block is not marked once, with all that names it.
    """
    text, count = SESSIONS_BLOCK.subn("", shipped)
    code = re.sub(r"^\s*#.*$", "", text, flags=re.M)
    if count != 1 or "mod_pubsub_sessions" in code:
        raise StackError(
            "deploy/ejabberd.yml must hold mod_pubsub_sessions once, between the comments "
            f"`# sessions: begin` and `# sessions: end`; found: {count} such blocks."
        )
    return text


def ejabberd_config(macros: Mapping[str, str | int], shipped: Path) -> str:
    """A configuration that includes another one and gives values to its macros.

    :param shipped: deploy/ejabberd.yml, or a copy of it.
    :raises StackError: when the file's macros are not exactly these.
    """
    declared = set(re.findall(r"^  '([A-Z0-9_]+)':", shipped.read_text(encoding="utf-8"), re.M))
    if declared != set(macros):
        raise StackError(
            f"The macros of {shipped} and of the stack differ: {sorted(declared ^ set(macros))}."
        )
    # JSON is YAML, and so needs no library.
    config = {
        "define_macro": dict(macros),
        "include_config_file": {str(shipped): {"disallow": ["define_macro"]}},
    }
    return json.dumps(config, indent=2, ensure_ascii=False) + "\n"


def erlang_accounts(accounts: Mapping[str, str]) -> str:
    """Accounts as the Erlang terms that ``file:consult`` reads.

    :param accounts: the password of each bare JID.
    :raises StackError: for what is no bare JID.
    """

    def binary(text: str) -> str:
        return f"<<{','.join(str(byte) for byte in text.encode())}>>"

    lines = []
    for jid, secret in accounts.items():
        user, at, host = jid.partition("@")
        if not (user and at and host):
            raise StackError(f"The account {jid!r} is not of the form user@host.")
        lines.append(f"{{{binary(user)}, {binary(host)}, {binary(secret)}}}.\n")
    return "".join(lines)


def nginx_site(values: Mapping[str, str]) -> str:
    """deploy/nginx.conf with private values in place of its own.

    :param values: what to put in place of each literal.
    :raises StackError: when a literal does not stand in the file exactly once outside comments.
    """
    shipped = deploy_file("nginx.conf")
    lines = shipped.read_text(encoding="utf-8").splitlines()
    code = [line for line in lines if not line.lstrip().startswith("#")]
    text = "\n".join(code) + "\n"
    for literal in values:
        if (count := text.count(literal)) != 1:
            raise StackError(
                f"{literal!r} must stand in {shipped} once, and it does {count} times."
            )
    pattern = "|".join(re.escape(literal) for literal in values)
    return re.sub(pattern, lambda match: values[match[0]], text)


def nginx_quoted(text: str) -> str:
    """Text as a quoted word of nginx's configuration.

    :raises StackError: for what nginx cannot take in a path.
    """
    if re.search(r'[\x00-\x1f"$\\]', text):
        raise StackError(f"nginx cannot use a path with quotes, $ or control characters: {text!r}")
    return f'"{text}"'
