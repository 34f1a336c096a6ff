"""manage.py pubsub_sync and pubsub_nodes, against a real ejabberd."""

import io
import json
import uuid
from datetime import date, timedelta
from unittest.mock import patch

import django
import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from pubsub import Publication, nodes, publish, pubsub
from pubsub.management.commands import pubsub_sync
from tests.testapp import models
from tests.testapp.models import Author, Badge, Post, Seat, Ticket

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("xmpp_settings")]


@pytest.fixture
def register(xmpp_settings, stack):
    """pubsub.register, undone after the test, with the nodes on the server."""
    before = {publication.model for publication in pubsub.publications}
    yield pubsub.register
    publications = [p for p in pubsub.publications if p.model not in before]
    pubsub.unregister([publication.model for publication in publications])
    backend = "pubsub.backends.xmpp.XMPPBackend"
    with override_settings(**stack.settings, PUBSUB_BACKEND=backend, XMPP_TIMEOUT=10):
        for publication in publications:
            for node in publication.nodes:
                nodes.delete(node).exception(10)


def manage(*arguments, **options):
    """What a command prints."""
    output = io.StringIO()
    call_command(*arguments, stdout=output, stderr=io.StringIO(), **options)
    return output.getvalue()


def test_missing_nodes_are_created_as_their_publications_ask(register):
    register(Author, node=["/sync/a", "/sync/b"], max_items=7, access="private")
    register(Badge, expire=timedelta(minutes=1))
    assert manage("pubsub_sync") == (
        "/sync/a: created\n/sync/b: created\n/testapp/Badge: created\n"
    )
    configuration = nodes.configuration("/sync/b").result(10)
    assert (configuration["max_items"], configuration["access_model"]) == ("7", "whitelist")
    assert nodes.configuration("/testapp/Badge").result(10)["item_expire"] == "60"
    assert manage("pubsub_sync").count("as it should be") == 3


def test_nodes_that_are_different_are_configured(register):
    register(Author, max_items=7)
    nodes.create("/testapp/Author", max_items=9, notify_retract=True).result(10)
    assert manage("pubsub_sync") == (
        "/testapp/Author: max_items 9 -> 7\n/testapp/Author: notify_retract 1 -> 0\n"
    )
    assert nodes.configuration("/testapp/Author").result(10)["max_items"] == "7"


def test_a_dry_run_changes_nothing(register):
    register(Author, max_items=7)
    register(Badge)
    nodes.create("/testapp/Author", max_items=9).result(10)
    Author.objects.create(name="Ada")
    output = manage("pubsub_sync", "testapp.Badge", "testapp.Author", "--dry-run", "--fill")
    assert output == (
        "/testapp/Badge: is missing\n/testapp/Author: max_items 9 -> 7\n"
        "testapp.Badge: 0 rows would be published\ntestapp.Author: 1 rows would be published\n"
    )
    assert nodes.configuration("/testapp/Author").result(10)["max_items"] == "9"


def test_a_check_fails_where_there_is_a_difference(register):
    register(Author)
    with pytest.raises(CommandError, match="1 nodes are not as"):
        manage("pubsub_sync", "--check")
    manage("pubsub_sync")
    assert "as it should be" in manage("pubsub_sync", "--check")


def test_the_newest_rows_fill_their_node_oldest_first(register):
    with pubsub.muted():
        seats = [Seat.objects.create(number=n) for n in range(5)]
    register(Seat, max_items=3)
    assert "testapp.Seat: 3 items published" in manage("pubsub_sync", "--fill")
    held = [item.id for item in nodes.items("/testapp/Seat").result(10)]
    assert held == [str(seat.pk) for seat in seats[2:]]


def filled(model):
    """The ids of what --fill publishes, in their order on the node."""
    manage("pubsub_sync", "--fill", model._meta.label)
    return [int(item.id) for item in nodes.items(f"/testapp/{model.__name__}").result(10)]


@pytest.mark.parametrize(
    ("latest", "order"),
    [
        (None, [0, 1, 2, 3, 4]),
        ("day", [2, 1, 3, 0, 4]),
        ("-day", [2, 0, 4, 1, 3]),
        (["visits", "-day"], [2, 0, 4, 1, 3]),
        (["day", "-visits"], [2, 3, 1, 4, 0]),
        ("pk", [0, 1, 2, 3, 4]),
    ],
)
@pytest.mark.parametrize("keep", [1, 2, 3, 4, 5, 9, "max"])
def test_the_newest_is_what_the_model_says(register, monkeypatch, latest, order, keep):
    monkeypatch.setattr(Ticket._meta, "get_latest_by", latest)
    days = [date(2026, 5, 2), date(2026, 5, 1), None, date(2026, 5, 1), date(2026, 5, 2)]
    with pubsub.muted():
        for number, day in enumerate(days):
            pk, visits = uuid.UUID(int=number + 1), number if latest == ["day", "-visits"] else 0
            Ticket.objects.create(pk=pk, day=day, visits=visits)
    register(Ticket, max_items=keep)
    limit = None if keep == "max" else keep
    found = [pk.int - 1 for pk in pubsub_sync.newest(Ticket, limit)]
    assert found == order[-limit if limit else 0 :]


def test_rows_of_the_same_age_do_not_push_newer_ones_out(register, monkeypatch):
    monkeypatch.setattr(Seat._meta, "get_latest_by", ["row"])
    with pubsub.muted():
        seats = [Seat.objects.create(number=n, row="B" if n == 1 else "A") for n in range(5)]
    register(Seat, max_items=3)
    assert filled(Seat) == [seats[3].pk, seats[4].pk, seats[1].pk]


def test_a_row_that_cannot_be_published_keeps_no_batch_from_it(register, monkeypatch):
    monkeypatch.setattr(pubsub_sync, "STEP", 2)
    with pubsub.muted():
        authors = [Author.objects.create(name=name) for name in ("Ada", "\x08", "Bo", "Cy", "Di")]
    register(Author)
    with pytest.raises(CommandError, match="XML"):
        manage("pubsub_sync", "--fill")
    held = [item.id for item in nodes.items("/testapp/Author").result(10)]
    assert held == [str(authors[n].pk) for n in (0, 2, 3, 4)]


def test_the_progress_is_told_after_it_was_made(register, monkeypatch):
    monkeypatch.setattr(pubsub_sync, "STEP", 2)
    with pubsub.muted():
        for number in range(5):
            Seat.objects.create(number=number)
    register(Seat, max_items="max")
    counts = []

    class Progress(io.StringIO):
        def write(self, text):
            counts.append((text.strip(), nodes.count("/testapp/Seat").result(10)))

    call_command("pubsub_sync", "--fill", stdout=io.StringIO(), stderr=Progress())
    assert counts == [("testapp.Seat: 2 rows …", 2), ("testapp.Seat: 4 rows …", 4)]


def test_without_a_node_there_is_nothing_to_fill(register):
    register(Author, node=())
    for option in ("--fill", "--dry-run"):
        assert manage("pubsub_sync", "--fill", option) == (
            "testapp.Author: has no node that could be filled\n"
        )


def test_a_dry_run_counts_no_more_rows_than_are_kept(register):
    with pubsub.muted():
        for number in range(5):
            Seat.objects.create(number=number)
    register(Seat, max_items=3)
    assert "testapp.Seat: 3 rows would" in manage("pubsub_sync", "--fill", "--dry-run")


def test_what_the_server_refuses_is_not_called_created(register):
    register(Author, max_items="nonsense")
    output = io.StringIO()
    with pytest.raises(CommandError):
        call_command("pubsub_sync", stdout=output, stderr=io.StringIO(), skip_checks=True)
    assert output.getvalue() == ""


if django.VERSION >= (5, 2):

    @pytest.mark.parametrize("keep", [2, "max"])
    def test_rows_with_a_key_of_two_columns_are_filled_in(register, keep):
        with pubsub.muted():
            for number in range(4):
                models.Booking.objects.create(day=date(2026, 5, 1), number=number)
        register(models.Booking, max_items=keep)
        output = manage("pubsub_sync", "--fill")
        assert f"testapp.Booking: {4 if keep == 'max' else 2} items published" in output
        assert "3" in nodes.items("/testapp/Booking").result(10)[-1].id


def test_a_node_that_keeps_everything_is_filled_with_everything(register):
    with pubsub.muted():
        Seat.objects.bulk_create(Seat(number=n) for n in range(700))
    register(Seat, max_items="max")
    output, progress = io.StringIO(), io.StringIO()
    call_command("pubsub_sync", "--fill", stdout=output, stderr=progress)
    assert "testapp.Seat: 700 items published" in output.getvalue()
    assert progress.getvalue() == "testapp.Seat: 500 rows …\n"
    assert nodes.count("/testapp/Seat").result(10) == 700


def test_a_log_is_not_filled(register):
    Author.objects.create(name="Ada")
    register(Author, item_id=None)
    assert "a log, which is not filled" in manage("pubsub_sync", "--fill")
    assert nodes.count("/testapp/Author").result(10) == 0


def test_rows_that_cannot_be_published_fail_the_command(register, caplog):
    with pubsub.muted():
        Author.objects.create(name="\x08")
        Author.objects.create(name="Ada")
    register(Author)
    with pytest.raises(CommandError, match="XML"):
        manage("pubsub_sync", "--fill")
    assert nodes.count("/testapp/Author").result(10) == 1
    assert "testapp.Author" in caplog.text


@pytest.mark.parametrize("label", ["testapp.Nobody", "nonsense", "testapp.Post"])
def test_a_model_that_is_not_registered_is_named(register, label):
    register(Author)
    with pytest.raises(CommandError, match=r"Registered are: .*testapp\.Author"):
        manage("pubsub_sync", label)


def test_a_server_that_is_not_there_is_an_error_and_no_traceback(register, settings):
    register(Author)
    settings.XMPP_PORT, settings.XMPP_TIMEOUT = 1, 0.5
    for command in ("pubsub_sync", "pubsub_nodes"):
        with pytest.raises(CommandError, match="refused"):
            manage(command)


def test_a_backend_without_a_server_cannot_sync(register, settings):
    register(Author)
    settings.PUBSUB_BACKEND = "pubsub.backends.console.ConsoleBackend"
    with pytest.raises(CommandError, match="ConsoleBackend has no"):
        manage("pubsub_sync")
    output = manage("pubsub_nodes")
    assert "testapp.Author" in output
    assert "no server" in output


def test_models_are_listed_with_what_the_server_says_of_their_nodes(register, stack):
    class ByRow(Publication):
        def get_nodes(self, instance, event):
            return f"/testapp/Post/{instance.pk}"

    register(Author, max_items=7)
    register(Badge)
    register(Post, ByRow)
    nodes.create("/testapp/Author", max_items=9, access_model="open").result(10)
    publish("/testapp/Author", "Hello").result(10)
    publish("/sync/other", "Hello").result(10)
    try:
        with patch.object(nodes, "configuration", wraps=nodes.configuration) as asked:
            manage("pubsub_nodes")
        assert [call.args[0] for call in asked.call_args_list].count("/testapp/Author") == 1
        listed = {row["node"]: row for row in json.loads(manage("pubsub_nodes", "--json"))}
        assert listed["/testapp/Author"] == {
            "model": "testapp.Author",
            "node": "/testapp/Author",
            "state": "differs: max_items",
            "access": "open",
            "items": 1,
            "subscriptions": 0,
        }
        assert listed["/testapp/Badge"]["state"] == "missing"
        assert listed["/sync/other"]["model"] == ""
        lines = manage("pubsub_nodes").splitlines()
        assert lines[0].split() == ["MODEL", "NODE", "STATE", "ACCESS", "ITEMS", "SUBSCRIPTIONS"]
        assert "testapp.Post: more nodes, for each row." in lines
    finally:
        nodes.delete("/sync/other").result(10)
