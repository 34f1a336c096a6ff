"""The laws of the house: who may import whom, read from the imports themselves."""

import ast
from pathlib import Path

import pytest

import pubsub

PACKAGE = Path(pubsub.__file__).parent

FLOWS = [
    *["outbox", "relay", "lists"],
    *["rechecking", "admissions", "sessions", "errands", "runners", "prebinding", "credentials"],
    *["querysets", "registry", "byhand", "receivers", "joining", "relations", "rows", "pipeline"],
    *[
        "announcing",
        "keeping",
        "tellings",
        "changes",
        "asking",
        "publications",
        "publishing",
        "throttling",
    ],
    *["commits", "savepoints", "nodes", "rules", "fetching"],
]

#: From the cellar up.  A module imports from its own floor or from below.
FLOORS = [
    {"exceptions", "futures", "spool"},
    {"wire"},
    {
        *{"models", "migrations", "signals", "entries", "items", "formats", "payloads"},
        *{"rowxml", "instances"},
        *{"identities", "context", "conf"},
    },
    {"backends"},
    set(FLOWS),
    {
        *{"devstack", "doctor", "apps", "checks", "admin", "views", "urls", "middleware"},
        *{"accounts", "management", "templatetags", "test"},
    },
]
FLOOR_OF = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}

#: Within a floor data flows one way, too: a room may import those that stand after it.
WAYS = {
    "flows": FLOWS,
    "matter": [
        *["models", "signals", "entries", "items", "formats", "identities", "payloads", "rowxml"],
        *["instances", "context", "conf"],
    ],
    "wire": [
        *[
            "bosh",
            "connection",
            "owner",
            "channel",
            "inbox",
            "outgoing",
            "listening",
            "dialogue",
            "ledger",
            "session",
            "stream",
            "fanout",
            "guard",
            "stanzas",
            "events",
            "answers",
        ],
        *[
            "posting",
            "sasl",
            "builder",
            "transport",
            "cipher",
            "forks",
            "wakeup",
            "backoff",
            "account",
        ],
    ],
}

#: What opens streams.
OPENING = ["connection", "owner", "channel", "inbox", "listening", "dialogue", "session", "stream"]

MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """The dotted names of all modules that a file imports, relative ones resolved."""
    package = ("pubsub", *path.relative_to(PACKAGE).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.add(module)
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def rooms_of(names: set[str]) -> set[str]:
    return {
        parts[1]
        for parts in (dotted.split(".") for dotted in names)
        if parts[0] == "pubsub" and len(parts) > 1 and parts[1] in FLOOR_OF
    }


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_go_down_only(path: Path):
    if path == PACKAGE / "__init__.py":
        return  # the front door opens on every floor
    upwards = {other for other in rooms_of(imports(path)) if FLOOR_OF[other] > FLOOR_OF[room(path)]}
    assert upwards == set()


@pytest.mark.parametrize("way", WAYS)
def test_data_flows_one_way_within_a_floor(way: str):
    order = WAYS[way]
    folder = PACKAGE / "wire" if way == "wire" else PACKAGE
    prefix = "pubsub.wire" if way == "wire" else "pubsub"
    backwards = [
        f"{importer} imports {imported}"
        for importer in order
        if (folder / f"{importer}.py").exists()
        for imported in order[: order.index(importer)]
        if f"{prefix}.{imported}" in imports(folder / f"{importer}.py")
    ]
    assert backwards == []


def test_only_the_wire_imports_xmpp():
    offenders = [
        name(path)
        for path in MODULES
        if room(path) != "wire" and any(m.split(".")[0] == "xmpp" for m in imports(path))
    ]
    assert offenders == []


def test_the_wire_does_not_know_django():
    offenders = [
        name(path)
        for path in MODULES
        if room(path) == "wire" and any(m.split(".")[0] == "django" for m in imports(path))
    ]
    assert offenders == []


def test_only_conf_reads_settings():
    offenders = [
        name(path)
        for path in MODULES
        if path != PACKAGE / "conf.py" and "django.conf.settings" in imports(path)
    ]
    assert offenders == []


def test_only_the_stair_joins_backends_and_connections():
    """Others know the results of requests (wire.stanzas), never sockets or threads."""
    offenders = [
        name(path)
        for path in MODULES
        if room(path) != "wire"
        and path != PACKAGE / "backends" / "xmpp.py"
        and imports(path) & {f"pubsub.wire.{other}" for other in OPENING}
    ]
    assert offenders == []


def test_every_module_says_what_lives_in_it():
    silent = [
        name(path)
        for path in MODULES
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_every_room_has_its_floor():
    assert {room(path) for path in MODULES} - {"__init__"} <= set(FLOOR_OF)
