"""pubsub/sessions.py: which tokens are worthless when sessions end."""

import time

import pytest
from django.contrib.auth.models import User

from pubsub import end_sessions, sessions
from pubsub.backends import get_backend
from pubsub.backends.base import BaseBackend
from pubsub.futures import resolved


class Server(BaseBackend):
    """Keeps what it is told."""

    manages_nodes = True

    def __init__(self):
        self.ended = []

    def end_sessions(self, jid, before, session=None):
        self.ended.append((jid, before, session))
        return resolved(None)


@pytest.mark.parametrize(("is_active", "margin"), [(True, 0), (False, sessions.CLOCKS)])
@pytest.mark.django_db(transaction=True)
def test_who_comes_back_keeps_his_next_token_and_who_does_not_none_of_a_fast_clock(
    settings, monkeypatch, is_active, margin
):
    settings.PUBSUB_BACKEND = f"{__name__}.Server"
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    end_sessions(User(pk=5, is_active=is_active)).result(0)
    assert get_backend().ended == [("5@users.localhost", 1000.0 + margin, None)]
