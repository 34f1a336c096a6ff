"""Tests of pubsub.relay.suspicion."""

from pubsub.exceptions import ConnectError
from pubsub.relay.suspicion import Suspicion
from tests.unit.relay.conftest import ACCUSED, LOST


def test_after_a_loss_lots_double_until_they_are_as_great_as_before():
    suspicion = Suspicion(10)
    suspicion.lost(7, LOST, was_alone=False)
    lots = []
    for _ in range(6):
        lots.append(suspicion.lot)
        suspicion.answered()
    assert lots == [1, 2, 4, 8, 10, 10]


def test_who_was_not_alone_is_not_convicted():
    suspicion = Suspicion(10)
    assert not any(suspicion.lost(7, ACCUSED, was_alone=False) for _ in range(20))


def test_what_the_server_accuses_is_convicted_by_the_third_stream():
    suspicion = Suspicion(10)
    found = [suspicion.lost(7, ACCUSED, was_alone=True) for _ in range(3)]
    assert found == [False, False, True]


def test_what_is_cut_without_a_word_is_convicted_by_the_twelfth_stream():
    suspicion = Suspicion(10)
    found = [suspicion.lost(7, LOST, was_alone=True) for _ in range(12)]
    assert found == [False] * 11 + [True]


def test_another_suspect_begins_anew():
    suspicion = Suspicion(10)
    for pk in (7, 8) * 20:
        assert not suspicion.lost(pk, ACCUSED, was_alone=True)


def test_where_there_was_no_stream_nobody_is_to_blame():
    suspicion = Suspicion(10)
    error = ConnectError("server:5222", "nobody is there")
    assert not any(suspicion.lost(7, error, was_alone=True) for _ in range(20))
