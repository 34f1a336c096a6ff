"""pubsub/spool.py: a list of any length in bounded memory."""

import gc
import tracemalloc
import warnings

import pytest

from pubsub.spool import CHUNK, IN_MEMORY, Spool


def filled(values):
    spool = Spool()
    for value in values:
        spool.append(value)
    return spool


@pytest.mark.parametrize("count", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 7])
def test_values_come_back_in_order_and_in_chunks(count):
    spool = filled(range(count))
    assert len(spool) == count
    chunks = list(spool.chunks())
    assert [value for chunk in chunks for value in chunk] == list(range(count))
    assert all(1 <= len(chunk) <= CHUNK for chunk in chunks)


def test_values_come_back_once():
    spool = filled(range(CHUNK + 1))
    assert len(list(spool.chunks())) == 2
    assert len(spool) == 0
    assert list(spool.chunks()) == []


def test_a_spool_that_was_read_takes_values_again():
    spool = filled(range(CHUNK + 1))
    list(spool.chunks())
    spool.append("again")
    assert list(spool.chunks()) == [["again"]]


def test_values_that_do_not_fit_the_memory_come_back_from_the_file():
    value = "x" * (IN_MEMORY // CHUNK)
    spool = filled(f"{n} {value}" for n in range(3 * CHUNK))
    values = [value.split()[0] for chunk in spool.chunks() for value in chunk]
    assert values == [str(n) for n in range(3 * CHUNK)]


def peak(count):
    gc.collect()
    tracemalloc.start()
    try:
        for _ in filled(f"{n:0200}" for n in range(count)).chunks():
            pass
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_does_not_grow_with_the_number_of_values():
    peak(100)
    assert peak(100_000) < 2 * peak(10_000)


@pytest.mark.parametrize("taken", [0, 1])
def test_a_spool_that_is_dropped_before_its_end_closes_its_file(taken):
    value = "x" * (IN_MEMORY // CHUNK)
    spool = filled(f"{n} {value}" for n in range(3 * CHUNK))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an unclosed file is a ResourceWarning
        chunks = spool.chunks()
        for _ in range(taken):
            next(chunks)
        del spool, chunks
        gc.collect()


def test_a_value_that_cannot_be_pickled_is_kept_like_any_other():
    values = [*range(CHUNK), lambda: None, *range(3 * CHUNK)]
    spool = filled(values)
    assert len(spool) == len(values)
    chunks = list(spool.chunks())
    assert [value for chunk in chunks for value in chunk] == values
    assert max(map(len, chunks)) == CHUNK
