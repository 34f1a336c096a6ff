"""pubsub/wire/forks.py: what is begun is done before the process forks."""

import os
import signal
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from pubsub.wire import forks
from pubsub.wire.forks import whole


def fork(live):
    """The exit code of a child that does this."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: that is the test
        child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(20)
            live()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def enter():
    with whole():
        pass


def enter_in_another_thread():
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()


def test_no_fork_comes_in_the_middle_of_what_another_thread_does():
    ended = threading.Event()
    halves = []  # of what is done at the moment

    def work():
        while not ended.is_set():
            with whole():
                halves.append("first")
                time.sleep(0.001)  # others go on, as they do while OpenSSL works
                halves.clear()

    with ThreadPoolExecutor() as pool, ExitStack() as leaving:
        leaving.callback(ended.set)
        working = pool.submit(work)
        codes = [fork(lambda: os._exit(len(halves))) for _ in range(20)]
    assert codes == [0] * 20
    assert working.result(20) is None


def test_both_sides_go_on_after_a_fork():
    assert fork(enter_in_another_thread) == 0
    enter_in_another_thread()


def test_a_signal_handler_may_fork_in_the_middle():
    codes = []
    before = signal.signal(signal.SIGUSR1, lambda *_: codes.append(fork(enter_in_another_thread)))
    try:
        with whole():
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert codes == [0]
    enter_in_another_thread()


def test_a_fork_does_not_wait_for_ever_for_what_may_wait_for_it(monkeypatch):
    monkeypatch.setattr(forks, "LIMIT", 0.01)
    begun, over = threading.Event(), threading.Event()

    def hold():
        with whole():
            begun.set()
            over.wait(20)

    with ThreadPoolExecutor() as pool, ExitStack() as leaving:
        leaving.callback(over.set)
        pool.submit(hold)
        assert begun.wait(20)
        assert fork(enter_in_another_thread) == 0
    enter_in_another_thread()
    assert fork(enter_in_another_thread) == 0


def test_a_child_that_was_forked_while_it_waited_goes_on():
    def begin_and_fork():
        """Wait for a lock that another thread holds, and fork meanwhile."""
        child = []
        forks.LIMIT = forks.LOOK = 0.1
        is_held, is_over = threading.Event(), threading.Event()

        def hold():
            with whole():
                is_held.set()
                is_over.wait(20)

        signal.signal(signal.SIGUSR1, lambda *_: child.append(os.fork()))
        thread = threading.Thread(target=hold)
        thread.start()
        is_held.wait(20)
        timer = threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        timer.start()
        threading.Timer(1, is_over.set).start()
        with whole():  # in the parent when the thread is done, in the child at once
            if child == [0]:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child[0], 0)[1]) == 0

    assert fork(begin_and_fork) == 0


def test_a_child_goes_on_whom_others_waited_with_at_the_fork():
    with ThreadPoolExecutor() as pool:
        with whole():
            waiting = [pool.submit(enter) for _ in range(4)]
            assert fork(enter_in_another_thread) == 0
        for one in waiting:
            one.result(20)
