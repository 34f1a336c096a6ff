"""Erlang nodes without epmd, which would be left behind: each has an address of its own."""

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from pubsub.devstack.erlang import erlang_libraries
from pubsub.devstack.ports import Ports

COOKIE = secrets.token_hex(16)


def flags(name: str, address: str, port: int) -> list[str]:
    """Arguments of ``erl`` for a node ``name@address``; all nodes that talk have the same port."""
    interface = address.replace(".", ",")
    return [
        *("-name", f"{name}@{address}", "-setcookie", COOKIE, "-start_epmd", "false"),
        *("-erl_epmd_port", str(port)),
        *("-kernel", "inet_dist_use_interface", f"{{{interface}}}"),
    ]


def free_port() -> int:
    """A port for nodes to talk by."""
    return Ports().resolved().http


@contextmanager
def distributed(name: str, address: str, port: int) -> Iterator[None]:
    """Whatever Erlang is started in the block is such a node."""
    before = os.environ.get("ERL_FLAGS")
    os.environ["ERL_FLAGS"] = " ".join(flags(name, address, port))
    try:
        yield
    finally:
        if before is None:
            del os.environ["ERL_FLAGS"]
        else:
            os.environ["ERL_FLAGS"] = before


def call(node: str, port: int, expression: str) -> str:
    """What an Erlang expression is worth on a node, as Erlang writes it.

    :raises AssertionError: when it cannot be told; the message quotes what Erlang says.
    """
    code = (
        '{ok, Tokens, _} = erl_scan:string(os:getenv("EXPRESSION")),'
        "{ok, Parsed} = erl_parse:parse_exprs(Tokens),"
        f"case rpc:call('{node}', erl_eval, exprs, [Parsed, []]) of"
        '    {value, Value, _} -> io:format("~0p~n", [Value]), halt(0);'
        '    Failed -> io:format("~0p~n", [Failed]), halt(1)'
        " end."
    )
    there = "group_leader(whereis(user), self())"  # or what it logs would come here
    done = subprocess.run(
        ["erl", "-noinput", *flags("asker", "127.0.0.9", port), "-dist_listen", "false"]
        + ["-hidden", "-eval", code],
        env={**os.environ, "EXPRESSION": f"{there}, {expression}.", "ERL_LIBS": erlang_libraries()},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()
