"""``python -m bench``, run as a process."""

import json
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[3]


def bench(*options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "bench", *options],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_it_prints_its_table_and_writes_it_as_json(tmp_path: Path):
    done = bench("--quick", "--only", "dummy:", "--json", str(tmp_path / "found.json"))
    assert done.returncode == 0, done.stderr
    for words in ("Python ", "Cost of save()", "dummy: save()", "dummy: publish(node, text)"):
        assert words in done.stdout
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))
    servers = {"ejabberd", "nginx", "nchan", "Redis", "Chromium", "PostgreSQL", "SQLite"}
    assert found["versions"].keys() == {"Python", "Django", "xmpppy", "CPUs"} | servers
    names = [line["name"] for page in found["pages"] for line in page["lines"]]
    assert names == ["dummy: save()", "dummy: save() in atomic()", "dummy: publish(node, text)"]


def test_the_outbox_is_measured_without_a_server():
    done = bench("--quick", "--only", "outbox: save()")
    assert done.returncode == 0, done.stderr
    assert "outbox: save(), beside INSERT" in done.stdout
    assert "starting" not in done.stderr


def test_a_pattern_that_fits_no_line_is_quoted():
    done = bench("--only", "pigeons")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no line's name holds pigeons" in done.stderr


def test_the_lines_are_listed():
    done = bench("--list", "--only", "xmpp: save()*process")
    assert done.stdout.splitlines() == [
        "xmpp: save(), process",
        "xmpp: save() in atomic(), process",
    ]
