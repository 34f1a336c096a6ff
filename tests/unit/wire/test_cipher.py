"""pubsub/wire/cipher.py: many records by one system call, whatever is lost on the way."""

import contextlib
import select
import shutil
import socket
import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from pubsub.devstack import files
from pubsub.wire.cipher import Cipher, trusting

HOST = "example.org"


class Counted:
    """A socket that counts what is asked of it."""

    def __init__(self, connected):
        self._connected = connected
        self.calls = 0

    def send(self, data):
        self.calls += 1
        return self._connected.send(data)

    def recv(self, size):
        self.calls += 1
        return self._connected.recv(size)


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """Two PEM files: key and certificate of HOST, and the certificate alone."""
    return files.certificate(tmp_path_factory.mktemp("tls"), [HOST], shutil.which("openssl"))


@pytest.fixture
def ends(pem):
    """Our end, the calls of its socket, the socket itself, and the peer's TLS."""
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(pem[0])
    here, there = socket.socketpair()
    here.setblocking(False)
    with here, there:
        counted = Counted(here)
        cipher = Cipher(counted, trusting(pem[1]), HOST)
        with ThreadPoolExecutor() as pool:
            peer = pool.submit(served.wrap_socket, there, server_side=True)
            while not cipher.agree():
                select.select([here], [here] if cipher.has_unsent else [], [], 20)
            with peer.result(20) as secured:
                with contextlib.suppress(BlockingIOError):
                    cipher.recv(1)  # the tickets that follow the handshake
                counted.calls = 0
                yield cipher, counted, here, secured


def heard(cipher, here, size):
    """So many bytes, read as they come."""
    data = b""
    while len(data) < size:
        select.select([here], [], [], 20)
        with contextlib.suppress(BlockingIOError):
            data += cipher.recv(65536)
    return data


def test_many_records_are_read_by_one_call(ends):
    cipher, counted, here, peer = ends
    for _ in range(50):
        peer.sendall(b"a stanza")
    assert heard(cipher, here, 400) == b"a stanza" * 50
    assert counted.calls <= 5
    assert not cipher.has_unread


def test_many_records_are_written_by_one_call(ends):
    cipher, counted, _here, peer = ends
    assert cipher.send(memoryview(b"x" * 65536)) == 65536  # four records
    assert counted.calls == 1
    assert not cipher.has_unsent
    data = b""
    while len(data) < 65536:
        data += peer.recv(65536)
    assert data == b"x" * 65536


def test_what_the_peer_does_not_read_is_not_taken_without_end(ends):
    cipher, _counted, _here, peer = ends
    taken = 0
    while sent := cipher.send(memoryview(b"x" * 65536)):
        taken += sent
    assert cipher.has_unsent
    data = b""
    while len(data) < taken:
        data += peer.recv(65536)
        cipher.send(memoryview(b""))
    assert len(data) == taken
    assert not cipher.has_unsent


def test_nothing_has_come_is_said_as_by_a_socket(ends):
    with pytest.raises(BlockingIOError):
        ends[0].recv(65536)


def test_no_more_is_read_than_was_asked_for_and_the_rest_waits(ends):
    cipher, _counted, here, peer = ends
    peer.sendall(b"0123456789")
    select.select([here], [], [], 20)
    assert cipher.recv(4) == b"0123"
    assert cipher.has_unread
    assert cipher.recv(65536) == b"456789"


def test_what_came_before_the_goodbye_is_read_before_it(ends):
    cipher, _counted, here, peer = ends
    peer.sendall(b"last words")
    peer.setblocking(False)
    with contextlib.suppress(ssl.SSLWantReadError):
        peer.unwrap()
    assert heard(cipher, here, 10) == b"last words"
    assert cipher.recv(65536) == b""


def test_what_came_before_the_connection_broke_is_read_before_that(ends):
    cipher, _counted, here, peer = ends
    peer.sendall(b"last words")
    peer.close()
    with contextlib.suppress(OSError):
        cipher.send(memoryview(b"unheard"))
    assert heard(cipher, here, 10) == b"last words"
    with contextlib.suppress(OSError):
        assert cipher.recv(65536) == b""


def test_a_certificate_of_somebody_else_ends_it(pem):
    here, there = socket.socketpair()
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(pem[0])
    here.setblocking(False)
    with here, there, ThreadPoolExecutor() as pool:
        cipher = Cipher(here, trusting(pem[1]), "another.example.org")
        peer = pool.submit(served.wrap_socket, there, server_side=True)
        with pytest.raises(ssl.SSLCertVerificationError):
            while not cipher.agree():
                select.select([here], [], [], 20)
        with pytest.raises(ssl.SSLError):  # it is told why
            peer.result(20)


FORKS = """
import os, signal, socket, sys, threading
from pubsub.wire.cipher import Cipher, trusting

def begin():
    here, there = socket.socketpair()
    here.setblocking(False)
    with here, there:
        assert not Cipher(here, trusting(sys.argv[1]), "example.org").agree()

def begin_and_exit():
    code = 1
    try:
        signal.alarm(20)  # a lock that nobody holds any more ends it
        begin()
        code = 0
    finally:
        os._exit(code)

threading.Thread(target=begin).start()
children = [os.fork() or begin_and_exit() for _ in range(20)]
print([os.waitpid(child, 0)[1] for child in children])
"""


def test_a_child_forked_while_its_parent_begins_tls_for_the_first_time_can_begin_it_too(pem):
    command = [sys.executable, "-W", "ignore", "-c", FORKS, pem[1]]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{[0] * 20}\n"
