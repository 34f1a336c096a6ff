"""The judge finds what is planted, and nothing else."""

import json

import pytest

from tests.server.faults.ledger import (
    DISORDER,
    KINDS,
    LOST,
    REPEATED,
    ROLLED_BACK,
    VIEW,
    WRONG,
    Change,
    Diary,
    Seen,
    Synced,
    judge,
)

MIRROR, LOG = "/mirror", "/log"


def row(version, state, id="1"):
    return Change(MIRROR, id, state, f"row {id}", version)


def logged(version, state):
    return Change(LOG, None, state, "thread 1", version)


def on_mirror(state, number, id="1"):
    return Seen(MIRROR, id, state, f"source.{number}")


def on_log(state, number):
    return Seen(LOG, f"id of {state}", state, f"source.{number}")


GONE = Seen(MIRROR, "1", None)

#: A row that is saved, deleted, and made again; and three items of a log.
COMMITTED = [
    *(row(1, "a"), row(2, "b"), row(3, None), row(4, "c")),
    *(logged(1, "x"), logged(2, "y"), logged(3, "z")),
]
UNDONE = [row(2, "undone"), logged(2, "undone, too")]
HELD = {
    MIRROR: [on_mirror("c", 6)],
    LOG: [on_log("x", 2), on_log("y", 5), on_log("z", 7)],
}
EVENTS = [
    *(on_mirror("a", 1), on_log("x", 2), on_mirror("b", 3), GONE),
    *(on_log("y", 5), on_mirror("c", 6), on_log("z", 7)),
]


def verdict(events=EVENTS, held=HELD, *, interrupted=False):
    return judge(COMMITTED, UNDONE, held, [Diary("ada", list(events), interrupted)])


def without(*indexes):
    return [event for n, event in enumerate(EVENTS) if n not in indexes]


def found(verdict):
    """How many faults of each kind there are, of those there are."""
    return {kind: verdict.count(kind) for kind in KINDS if verdict.count(kind)}


def test_a_run_without_a_fault_is_clean():
    clean = verdict()
    assert found(clean) == {}
    assert clean.is_clean
    assert (clean.committed, clean.rolled_back, clean.held) == (7, 2, 4)
    (account,) = clean.accounts
    assert (account.events, account.seen, account.dropped) == (7, 6, 0)


@pytest.mark.parametrize("index", [0, 2, 3, 1, 4])
def test_an_event_that_is_missing_is_found(index):
    missing = verdict(without(index))
    assert missing.count(LOST, "ada") == 1
    assert missing.count(LOST) == 1


def test_the_last_event_of_a_row_that_is_missing_leaves_a_wrong_page():
    assert found(verdict(without(5))) == {LOST: 1, VIEW: 1}


def test_repeats_are_dropped_by_their_number():
    repeated = verdict([*EVENTS, on_log("x", 2), on_mirror("c", 6)])
    assert found(repeated) == {}
    assert repeated.repeats == 2


def test_repeats_without_a_number_are_found():
    assert found(verdict([*EVENTS, Seen(LOG, "id of x", "x")])) == {REPEATED: 1}


def test_a_repeat_under_another_id_is_found():
    again = on_log("x", 8)
    again = Seen(LOG, "another", again.state, again.seq)
    assert found(verdict([*EVENTS, again], HELD | {LOG: [*HELD[LOG], again]})) == {REPEATED: 2}


def test_states_of_a_row_that_change_places_are_found():
    a, x, b, *others = EVENTS
    assert found(verdict([x, b, a, *others])) == {DISORDER: 1}
    late = on_mirror("a", 9)
    assert found(verdict([x, b, late, *others])) == {DISORDER: 1}


def test_items_of_a_log_that_change_places_are_found():
    a, x, b, gone, y, c, z = EVENTS
    assert found(verdict([a, x, b, gone, c, z, y])) == {DISORDER: 1}


def test_all_of_it_again_is_no_fault():
    again = verdict([*EVENTS, *EVENTS])
    assert found(again) == {}
    (account,) = again.accounts
    assert (account.dropped, account.again) == (5, 1)  # a retraction tells no number


def test_what_was_rolled_back_is_found():
    events = [*EVENTS, on_log("undone, too", 8)]
    assert found(verdict(events, HELD | {LOG: [*HELD[LOG], events[-1]]})) == {ROLLED_BACK: 2}


def test_a_state_that_nobody_wrote_is_found():
    events = [*EVENTS, on_log("?", 8)]
    assert found(verdict(events, HELD | {LOG: [*HELD[LOG], events[-1]]})) == {WRONG: 2}


@pytest.mark.parametrize("state", ["b", None])
def test_a_node_that_has_not_the_last_state_is_found(state):
    held = [] if state is None else [on_mirror(state, 3)]
    assert found(verdict(held=HELD | {MIRROR: held})) == {WRONG: 1, VIEW: 1}


def test_an_item_that_is_on_a_log_no_more_is_found():
    assert found(verdict(held=HELD | {LOG: HELD[LOG][1:]})) == {LOST: 1, VIEW: 1}


def test_a_subscriber_who_was_away_has_it_from_what_he_fetched():
    fetched = [Synced(node, tuple(items)) for node, items in HELD.items()]
    assert found(verdict([*EVENTS[:2], *fetched], interrupted=True)) == {}
    assert found(verdict([*EVENTS[:2], fetched[0]], interrupted=True)) == {LOST: 2, VIEW: 2}


def test_who_was_away_may_be_told_again_what_he_missed():
    fetched = [Synced(node, tuple(items)) for node, items in HELD.items()]
    away = [*EVENTS[:2], *fetched]
    assert found(verdict([*away, *EVENTS[2:]], interrupted=True)) == {}
    assert found(verdict([*EVENTS[:2], *fetched, *EVENTS[2:]])) == {DISORDER: 1, REPEATED: 1}


def test_who_was_away_is_told_all_of_it_in_order():
    fetched = [Synced(node, tuple(items)) for node, items in HELD.items()]
    b, y, c, z = EVENTS[2], EVENTS[4], EVENTS[5], EVENTS[6]
    late = [*EVENTS[:2], *fetched, c, b, z, y]
    assert found(verdict(late, interrupted=True)) == {DISORDER: 1}


def test_what_he_fetched_tells_repeats():
    fetched = [Synced(node, tuple(items)) for node, items in HELD.items()]
    events = [*fetched, on_log("y", 5), on_log("z", 7), on_mirror("c", 6)]
    again = verdict(events, interrupted=True)
    assert (found(again), again.repeats) == ({}, 3)


def test_a_table_names_what_is_lost():
    lost = verdict(without(1))
    assert "lost (ada): 'x' on /log" in lost.table()
    assert lost.table().splitlines()[3].split() == ["ada", "6", "5", "0", "0", "1", *"00001"]
    assert json.loads(lost.as_json())["faults"][0]["kind"] == LOST
