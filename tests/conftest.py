"""What every test may use.

Fixtures of the stack (pubsub.devstack), real servers on free ports of the loopback:

stack           an ejabberd that all tests of one worker share: ``stack.settings`` are its settings;
                a test that is marked with ``delivery`` runs with one that has mod_pubsub_sessions,
                and again with one that has not
xmpp_settings   pytest-django's ``settings``, set up for ``stack``
private_stack   makes a stack of the test's own, to be killed and restarted at will
failures        what publish_failed said
postgres        a PostgreSQL that all tests of one worker share; see tests/postgres.py

In CI (the environment variable CI is set) a skipped test is a failure.
"""

import gc
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from pubsub.devstack import SESSIONS_VARIABLE, Stack, sessions_wanted
from pubsub.signals import publish_failed
from tests.postgres import Postgres

# No time is a fact about an example: the machine may be busy.
hypothesis.settings.register_profile(
    "patient", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")

ACCOUNTS = {"alice@users.localhost": "alice's password", "bob@users.localhost": "bob's password"}


def version(*command: str) -> str:
    """Return the first line that a program prints about its version, or that it is missing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not known ({error})"
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines else "says nothing"


def pytest_report_header() -> list[str]:
    if os.environ.get("PYTEST_XDIST_WORKER"):
        return []
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin"))
    return [
        f"ejabberd: {version('dpkg-query', '-W', '-f', '${Version}', 'ejabberd')}",
        f"nginx: {version('env', f'PATH={path}', 'nginx', '-v').removeprefix('nginx version: ')}",
        f"Chromium: {version('chromium', '--version')}",
        f"mod_pubsub_sessions: {'on' if sessions_wanted() else 'off'} ({SESSIONS_VARIABLE})",
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let what is about delivery run in both configurations, if the first one is asked for."""
    both = metafunc.definition.get_closest_marker("delivery") and sessions_wanted()
    if both and "stack" in metafunc.fixturenames:
        metafunc.parametrize("stack", [True, False], ids=["sessions", "mod_pubsub"], indirect=True)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let browser tests come last: an event loop runs in their worker from the first one on.

    Django refuses to use a database where one runs.  Those of faults, which wait for long, are the
    first of them, so that no worker waits alone in the end.
    """
    items.sort(key=lambda i: ("browser" in i.path.parts) * (1 + ("faults" not in i.path.parts)))


def pytest_collection_finish() -> None:
    """Spare the garbage collector what stays to the end: thousands of tests and their modules.

    Each of its full rounds went through all of that.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    return fail_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    return fail_skipped((yield))  # a module may skip itself while it is imported


def fail_skipped(report: Any) -> Any:
    """The report of a test or a module, turned into a failure if it was skipped in CI."""
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        report.outcome = "failed"
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.longrepr = f"A skip fails in CI. {reason}"
    return report


@pytest.fixture(scope="session")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[bool], Stack]]:
    """A function: the ejabberd with, or without, mod_pubsub_sessions, started when it is wanted."""
    started: dict[bool, Stack] = {}
    with ExitStack() as running:

        def with_sessions(sessions: bool) -> Stack:
            if sessions not in started:
                folder = tmp_path_factory.mktemp("stack")
                stack = Stack(folder, accounts=ACCOUNTS, sessions=sessions)
                started[sessions] = running.enter_context(stack)
            return started[sessions]

        yield with_sessions


@pytest.fixture(scope="session")
def stack(stacks: Callable[[bool], Stack], request: pytest.FixtureRequest) -> Stack:
    """An ejabberd shared by the worker's tests, with the accounts of alice and bob."""
    return stacks(getattr(request, "param", sessions_wanted()))


@pytest.fixture
def xmpp_settings(stack: Stack, settings: Any) -> Any:
    """pytest-django's ``settings``, with those of the shared stack."""
    for name, value in stack.settings.items():
        setattr(settings, name, value)
    return settings


@pytest.fixture
def private_stack(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """A function that starts a stack of the test's own; it takes the arguments of ``Stack``."""
    with ExitStack() as running:

        def start(**options: Any) -> Stack:
            return running.enter_context(Stack(tmp_path / "stack", **options))

        yield start


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL shared by the worker's tests."""
    with Postgres() as running:
        yield running


@pytest.fixture
def failures() -> Iterator[list[tuple[str, BaseException]]]:
    """What publish_failed said: about what, and why."""
    said: list[tuple[str, BaseException]] = []
    publish_failed.connect(
        lambda **kw: said.append((kw["about"], kw["error"])), weak=False, dispatch_uid="failures"
    )
    yield said
    publish_failed.disconnect(dispatch_uid="failures")
