"""What is published to crowds, and which lines tell of it."""

from bench.fanout import PAGE, TRANSPORTS, marked_item, tasks

LINES = [line for run in PAGE.runs for line in run.lines]


def test_every_item_has_the_same_size_and_bears_its_number():
    items = [marked_item("/bench", number) for number in (1, 1234567)]
    assert [len(item.payload) for item in items] == [350, 350]
    assert "@1234567:" in items[1].payload


def test_no_size_takes_more_open_files_than_a_process_usually_gets():
    for kind in TRANSPORTS:
        for size in {task.size for task in tasks(kind)}:
            assert sum(size for task in tasks(kind) if task.size == size) < 20_000


def test_the_module_is_compared_with_the_same_without_it():
    compared = {line.name: line.base for line in LINES if line.base is not None}
    assert len(compared) == 2 * (4 + 3)
    for name, base in compared.items():
        assert name.replace("with the module", "without it") == base


def test_there_is_an_aim_for_a_thousand_through_nginx():
    assert {line.name: line.aim for line in LINES if line.aim is not None} == {
        "fan-out: 1000 by WebSocket, nginx, with the module": 20,
        "fan-out: 1000 by BOSH, nginx, with the module": 130,
    }
