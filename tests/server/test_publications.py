"""What a Publication says, and what then reaches a subscriber through a real ejabberd."""

import json
import os
import signal
import subprocess
import sys
import threading
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from django.db import transaction
from django.template import Context, Template
from slixmpp.exceptions import IqError

from pubsub import Publication, nodes, publish, pubsub
from pubsub.backends import get_backend
from pubsub.context import originating
from pubsub.exceptions import PubSubError, QueueFull, ServerLost
from pubsub.signals import item_published
from tests.listener import listening
from tests.testapp.models import Author, Badge, Place, Post, Restaurant, Seat, Ticket
from tests.waiting import until

ATOM = "{http://www.w3.org/2005/Atom}"

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("xmpp_settings")]


@pytest.fixture
def register(xmpp_settings):
    """pubsub.register, undone after the test; its nodes are there during the test only."""
    before = set(pubsub.publications)

    def register(model, publication=None, **options):
        pubsub.register(model, publication, **options)
        for node in pubsub.publication_for(model).nodes:
            nodes.ensure(node)
            nodes.configuration(node).result(10)

    yield register
    for publication in set(pubsub.publications) - before:
        pubsub.unregister(publication.model)
        for node in publication.nodes:
            nodes.delete(node).result(20)


def ids(node):
    """The ids of the items that a node holds, in the server's order."""
    return [item.id for item in nodes.items(node).result(20)]


# node


def test_a_row_arrives_on_each_of_its_nodes(stack, register):
    register(Author, node=["/test/one", "/test/two"])
    with listening(stack.settings, "/test/one", "/test/two") as listener:
        author = Author.objects.create(name="Ada")
        events = [listener.next(), listener.next()]  # nodes do not wait for each other
    assert {(event.node, event.id, event.text) for event in events} == {
        ("/test/one", str(author.pk), "Ada"),
        ("/test/two", str(author.pk), "Ada"),
    }


@pytest.mark.delivery
def test_a_row_arrives_on_the_node_of_its_own_and_leaves_it_when_it_moves(stack, register):
    class ByName(Publication):
        track = True

        def get_nodes(self, instance, event):
            return f"/test/authors/{instance.name}"

    register(Author, ByName)
    author = Author.objects.create(name="Ada")
    publish("/test/authors/Bo", "exists").result(10)
    with listening(stack.settings, "/test/authors/Ada", "/test/authors/Bo") as listener:
        author.name = "Bo"
        author.save()
        events = sorted([listener.next(), listener.next()], key=lambda event: event.node)
    left, entered = events
    assert (left.node, left.id, left.entry) == ("/test/authors/Ada", str(author.pk), None)
    assert (entered.node, entered.id, entered.text) == ("/test/authors/Bo", str(author.pk), "Bo")
    assert ids("/test/authors/Ada") == []


def test_a_row_with_a_parent_arrives_on_the_nodes_of_both(stack, register):
    register(Place)
    register(Restaurant)
    with listening(stack.settings, "/testapp/Place", "/testapp/Restaurant") as listener:
        Restaurant.objects.create(name="R", stars=3)
        events = {listener.next().node, listener.next().node}
    assert events == {"/testapp/Place", "/testapp/Restaurant"}


# events


def test_the_event_of_each_item_is_told_and_others_are_left_out(stack, register):
    register(Author, events=["created", "deleted"])
    with listening(stack.settings, "/testapp/Author") as listener:
        author = Author.objects.create(name="Ada")
        author.name = "Bo"
        author.save()
        author.delete()
        created, deleted = listener.next(), listener.next()
        Author.objects.create(name="last")
        assert listener.next().text == "last"
    assert created.meta["event"] == "created"
    assert created.text == "Ada"
    assert deleted.entry is None


def test_the_meta_tells_the_event_and_the_time_in_utc(stack, register):
    register(Author)
    with listening(stack.settings, "/testapp/Author") as listener:
        author = Author.objects.create(name="Ada")
        author.save()
        first, second = listener.next().meta, listener.next().meta
    assert [first["event"], second["event"]] == ["created", "updated"]
    assert first["at"] < second["at"]
    assert first["at"].endswith("Z")
    assert "origin" not in first


# fields and formats


def test_only_the_fields_that_are_named_arrive(stack, register):
    register(Post, fields=["title"])
    with listening(stack.settings, "/testapp/Post") as listener:
        Post.objects.create(title="T", body="secret")
        entry = listener.next().entry
    assert [field.get("name") for field in entry.iter("field")] == ["title"]
    assert "secret" not in ET.tostring(entry, "unicode")


def test_json_arrives_as_json(stack, register):
    register(Ticket, format="json", exclude=["visits"])
    with listening(stack.settings, "/testapp/Ticket") as listener:
        ticket = Ticket.objects.create(day="2026-01-31", price="7.50")
        payload = listener.next().entry[1]
    assert payload.tag == "{urn:xmpp:json:0}json"
    assert json.loads(payload.text) == {
        "id": str(ticket.pk),
        "day": "2026-01-31",
        "price": "7.50",
        "author": None,
    }


def test_atom_arrives_as_a_complete_entry(stack, register):
    register(Badge, format="atom")
    with listening(stack.settings, "/testapp/Badge") as listener:
        Badge.objects.create(code="a b")
        entry = listener.next().entry
    assert entry.tag == f"{ATOM}entry"
    assert entry.find(f"{ATOM}title").text == "a b"
    assert entry.find(f"{ATOM}id").text == "xmpp:pubsub.localhost?;node=/testapp/Badge;item=a%20b"
    assert entry.find(f"{ATOM}author/{ATOM}name").text == "localhost"
    assert entry.find(f"{ATOM}updated").text.endswith("Z")
    assert entry.find(f"{ATOM}content").get("type") == "text"
    assert entry[0].get("event") == "created"


def test_a_payload_of_the_users_own_arrives(stack, register):
    class Own(Publication):
        def get_payload(self, instance, event):
            return ET.fromstring(f'<author xmlns="urn:x" name="{instance.name}"/>')

    register(Author, Own)
    with listening(stack.settings, "/testapp/Author") as listener:
        Author.objects.create(name="Ada")
        payload = listener.next().entry[1]
    assert (payload.tag, payload.get("name")) == ("{urn:x}author", "Ada")


# should_publish


def test_a_row_that_stops_fulfilling_the_condition_is_retracted(stack, register):
    class Short(Publication):
        def should_publish(self, instance, event):
            return len(instance.name) < 5

    register(Author, Short)
    with listening(stack.settings, "/testapp/Author") as listener:
        author = Author.objects.create(name="Ada")
        assert listener.next().text == "Ada"
        Author.objects.create(name="Archimedes")
        author.name = "Augusta Ada"
        author.save()
        event = listener.next()
        assert (event.id, event.entry) == (str(author.pk), None)
        author.name = "Ada"
        author.save()
        assert listener.next().text == "Ada"
    assert ids("/testapp/Author") == [str(author.pk)]


# item_id


def test_items_are_known_by_the_primary_key_by_another_field_or_by_none(stack, register):
    register(Seat, item_id="number", node="/test/seats")
    register(Author, item_id=None)
    register(Post)
    with listening(stack.settings, "/test/seats", "/testapp/Author", "/testapp/Post") as listener:
        seat = Seat.objects.create(number=77)
        seat.row = "B"
        seat.save()
        assert [listener.next().id, listener.next().id] == ["77", "77"]
        author = Author.objects.create(name="Ada")
        author.save()
        logged = [listener.next().id, listener.next().id]
        assert len(set(logged)) == 2
        assert str(author.pk) not in logged
        author.delete()
        last = listener.next()
        assert last.meta["event"] == "deleted"
        post = Post.objects.create(title="T")
        assert listener.next().id == str(post.pk)
        seat.delete()
        assert (listener.next().id, ids("/test/seats")) == ("77", [])
    assert len(ids("/testapp/Author")) == 3


# m2m


def test_changes_of_relations_arrive_from_both_directions(stack, register):
    register(Post, m2m=["readers"], fields=["readers"])
    post = Post.objects.create(title="T")
    author = Author.objects.create(name="Ada")

    def readers(event):
        assert (event.id, event.meta["event"]) == (str(post.pk), "updated")
        return [o.get("pk") for o in event.entry.iter("object") if o.get("pk") != str(post.pk)] or [
            child.get("pk") for field in event.entry.iter("field") for child in field
        ]

    with listening(stack.settings, "/testapp/Post") as listener:
        post.readers.add(author)
        assert readers(listener.next()) == [str(author.pk)]
        post.readers.remove(author)
        assert readers(listener.next()) == []
        author.read.add(post)
        assert readers(listener.next()) == [str(author.pk)]
        author.read.clear()
        assert readers(listener.next()) == []
        author.read.set([post])
        assert readers(listener.next()) == [str(author.pk)]
        post.readers.clear()
        assert readers(listener.next()) == []


# max_items, access, expire


@pytest.mark.delivery
def test_a_node_keeps_so_many_items_and_drops_the_oldest_without_a_word(stack, register):
    register(Author, max_items=3)
    with listening(stack.settings, "/testapp/Author") as listener:
        authors = [Author.objects.create(name=str(n)) for n in range(10)]
        events = [listener.next() for _ in authors]
        Author.objects.create(name="last")
        assert listener.next().text == "last"
    assert all(event.entry is not None for event in events)
    assert nodes.configuration("/testapp/Author").result(10)["max_items"] == "3"
    assert len(ids("/testapp/Author")) == 3
    assert str(authors[6].pk) not in ids("/testapp/Author")


def refusal(settings, node):
    """Why a guest cannot subscribe to a node."""
    with listening(settings) as listener, pytest.raises(IqError) as refused:
        listener.subscribe(node)
    return refused.value.iq["error"].xml


@pytest.mark.parametrize(
    "first",
    [
        lambda: Author.objects.create(name="Ada"),
        lambda: publish("/test/private", "by hand"),
        lambda: nodes.ensure("/test/private"),
        lambda: nodes.create("/test/private"),
        lambda: pubsub.publish_rows([Author(pk=1, name="Ada")]),
        lambda: Template("{% load pubsub %}{% pubsub_client %}").render(Context()),
    ],
    ids=["save", "publish", "ensure", "create", "publish_rows", "page"],
)
def test_a_private_node_is_closed_to_guests_whoever_was_there_first(stack, xmpp_settings, first):
    pubsub.register(Author, node="/test/private", access="private", max_items=5)
    try:
        first()
        configuration = nodes.configuration("/test/private").result(10)
        assert configuration["access_model"] == "whitelist"
        assert configuration["max_items"] == "5"
        assert configuration["send_last_published_item"] == "on_sub"
        error = refusal(stack.settings, "/test/private")
        assert error.find("{http://jabber.org/protocol/pubsub#errors}closed-node") is not None
    finally:
        pubsub.unregister(Author)
        nodes.delete("/test/private").result(10)


@pytest.mark.parametrize("expire", [1, 3600])
def test_a_node_is_told_after_which_time_its_items_may_go(register, expire):
    register(Author, expire=expire)
    assert nodes.configuration("/testapp/Author").result(10)["item_expire"] == str(expire)


# throttle


def test_of_ten_quick_saves_the_first_and_the_last_arrive(stack, register):
    register(Author, throttle=0.5)
    with pubsub.muted():
        author = Author.objects.create(name="Ada")
    with listening(stack.settings, "/testapp/Author") as listener:
        for n in range(10):
            author.name = str(n)
            author.save()
        assert [listener.next().text, listener.next().text] == ["0", "9"]
        Author.objects.create(name="another")
        assert listener.next().text == "another"


# Transactions


def test_of_several_saves_in_one_transaction_the_last_state_arrives_once(stack, register):
    register(Author)
    with listening(stack.settings, "/testapp/Author") as listener:
        with transaction.atomic():
            author = Author.objects.create(name="first")
            for name in ("second", "third"):
                author.name = name
                author.save()
        Author.objects.create(name="another")
        event = listener.next()
        assert (event.text, event.meta["event"]) == ("third", "created")
        assert listener.next().text == "another"


def test_the_origin_of_a_call_arrives(stack, register):
    register(Author)
    with listening(stack.settings, "/testapp/Author") as listener:
        with originating("the-origin"):
            Author.objects.create(name="Ada")
            pubsub.publish_rows(Author.objects.all())
        Author.objects.create(name="Bo")
        origins = [listener.next().meta.get("origin") for _ in range(3)]
    assert origins == ["the-origin", "the-origin", None]


def test_what_is_muted_does_not_arrive(stack, register):
    register(Author)
    with listening(stack.settings, "/testapp/Author") as listener:
        with pubsub.muted():
            Author.objects.create(name="muted")
        Author.objects.create(name="heard")
        assert listener.next().text == "heard"


# Bulk operations


@pytest.mark.parametrize("queue_size", [10_000, 100, 2])
def test_bulk_operations_arrive_in_order_and_complete(
    stack, register, settings, failures, queue_size
):
    settings.PUBSUB_QUEUE_SIZE = queue_size
    count = 600 if queue_size > 2 else 50
    # Of an item that the node has dropped the server tells no retraction.
    register(Seat, fields=["number", "row"], max_items=600)
    numbers = [str(n) for n in range(count)]
    with listening(stack.settings, "/testapp/Seat") as listener:
        Seat.objects.bulk_create([Seat(number=n, row="") for n in range(count)])
        assert [listener.next().text for _ in range(count)] == numbers
        Seat.objects.update(row=" B")
        assert [listener.next().text for _ in range(count)] == [f"{n} B" for n in numbers]
        future = pubsub.publish_rows(Seat.objects.order_by("-number"))
        assert [listener.next().text for _ in range(count)] == [f"{n} B" for n in numbers[::-1]]
        assert future.result(20) == count
        Seat.objects.all().delete()
        gone = [listener.next() for _ in range(count)]
        assert all(event.entry is None for event in gone)
        assert len({event.id for event in gone}) == count
    until(lambda: ids("/testapp/Seat") == [], "the node is empty")
    assert failures == []


def test_two_bulk_operations_share_a_small_queue(stack, register, settings, failures):
    settings.PUBSUB_QUEUE_SIZE = 10
    register(Author)
    rows = [[Author(pk=n, name=str(n)) for n in range(start, start + 300)] for start in (0, 300)]
    futures = []
    threads = [
        threading.Thread(target=lambda rows=rows: futures.append(pubsub.publish_rows(rows)))
        for rows in rows
    ]
    with listening(stack.settings, "/testapp/Author") as listener:
        for thread in threads:
            thread.start()
        arrived = [int(listener.next().text) for _ in range(600)]
        for thread in threads:
            thread.join()
    assert [future.result(10) for future in futures] == [300, 300]
    assert [n for n in arrived if n < 300] == list(range(300))
    assert [n for n in arrived if n >= 300] == list(range(300, 600))
    assert failures == []


def test_when_the_connection_is_closed_in_the_middle_the_rest_is_told_of_once(
    register, settings, failures
):
    """As at the exit of the interpreter, when a daemon thread is not done yet."""
    settings.PUBSUB_QUEUE_SIZE = 100
    register(Author)

    def rows():
        for n in range(1, 10_000):
            if n == 300:
                get_backend().close()
            yield Author(pk=n, name=str(n))

    error = pubsub.publish_rows(rows()).exception(20)
    settings.PUBSUB_QUEUE_SIZE = 200  # and another connection, for what is to be cleared away
    assert "has been closed" in str(error)
    assert [about for about, _ in failures if about == "the rest of the rows"] == [
        "the rest of the rows"
    ]
    assert len(failures) <= 101


def test_each_row_may_have_a_node_of_its_own(register, settings, failures):
    """Which costs two requests each, and both have to fit the queue."""
    settings.PUBSUB_QUEUE_SIZE = 10

    class Own(Publication):
        def get_nodes(self, instance, event):
            return f"/test/own/{instance.pk}"

    register(Author, Own)
    rows = [Author(pk=n, name=str(n)) for n in range(1, 301)]
    assert pubsub.publish_rows(rows).result(20) == 300
    for n in (1, 300):
        assert ids(f"/test/own/{n}") == [str(n)]
        assert nodes.configuration(f"/test/own/{n}").result(10)["access_model"] == "open"
    assert failures == []


def test_a_bulk_operation_in_a_receiver_of_our_signals_holds_nothing_up(
    stack, register, settings, failures
):
    """Receivers are called in the thread that owns the stream; waiting there would end it."""
    settings.PUBSUB_QUEUE_SIZE = 400
    register(Author)
    register(Seat, fields=["number"])
    done = []

    def publish_more(item, **kwargs):
        if item.node == "/testapp/Author" and not done:
            done.append(True)
            done.append(pubsub.publish_rows([Seat(pk=n, number=n) for n in range(1, 351)]))

    item_published.connect(publish_more)
    try:
        with listening(stack.settings, "/testapp/Seat") as listener:
            Author.objects.create(name="Ada")
            assert [listener.next().text for _ in range(350)] == [str(n) for n in range(1, 351)]
    finally:
        item_published.disconnect(publish_more)
    assert done[1].result(10) == 350
    assert publish("/home", "the stream goes on").result(10)
    assert failures == []


def test_in_a_receiver_of_our_signals_what_does_not_fit_is_told_of(register, settings, failures):
    settings.PUBSUB_QUEUE_SIZE = 100
    register(Author)
    results = []

    def publish_more(item, **kwargs):
        if item.node == "/home" and not results:
            results.append(pubsub.publish_rows([Author(pk=n, name=str(n)) for n in range(1, 1001)]))

    item_published.connect(publish_more)
    try:
        publish("/home", "Hello").result(10)
        until(lambda: results, "the receiver is done")
    finally:
        item_published.disconnect(publish_more)
    assert isinstance(results[0].exception(10), QueueFull)
    assert [type(error) for _, error in failures] == [QueueFull, ServerLost]
    assert publish("/home", "the stream goes on").result(10)


def test_when_the_server_dies_in_the_middle_the_rest_is_told_of_once(
    private_stack, settings, failures
):
    stack = private_stack()
    for name, value in stack.settings.items():
        setattr(settings, name, value)
    settings.XMPP_TIMEOUT = 2
    pubsub.register(Author)
    try:

        def rows():
            for n in range(1, 100_000):
                if n == 1_200:
                    stack.ejabberd.kill()
                yield Author(pk=n, name=str(n))

        future = pubsub.publish_rows(rows())
        error = future.exception(20)
    finally:
        pubsub.unregister(Author)
    assert isinstance(error, PubSubError)
    told = [about for about, error in failures if isinstance(error, ServerLost)]
    assert told == ["the rest of the rows"]
    assert len(failures) < 1_200


def test_when_the_server_is_away_a_bulk_operation_ends_and_the_rows_are_there(
    private_stack, settings, failures
):
    stack = private_stack()
    for name, value in stack.settings.items():
        setattr(settings, name, value)
    settings.XMPP_TIMEOUT = 1
    pubsub.register(Seat)
    try:
        stack.ejabberd.kill()
        Seat.objects.bulk_create([Seat(number=n) for n in range(1_200)])
        assert Seat.objects.count() == 1_200
        ((rest, error),) = failures
        assert rest == "700 rows of testapp.Seat"
        assert isinstance(error, ServerLost)
        assert "refused" in str(error)
        stack.ejabberd.start()
        assert publish("/home", "back").result(30)
        assert nodes.count("/testapp/Seat").result(10) == 500  # those that were tried
        assert pubsub.publish_rows(Seat.objects.all()).result(20) == 1_200
    finally:
        pubsub.unregister(Seat)


# The end of a process

PROGRAM = """
import os, sys, json
sys.path.insert(0, {root!r})
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
from django.conf import settings
import django
for name, value in json.loads({settings!r}).items():
    setattr(settings, name, value)
django.setup()
from pubsub import nodes, publish, pubsub
from pubsub.publishing import deliver
from pubsub.items import make_item
from tests.testapp.models import Author
node = {node!r}

def update(count=10, node=node):
    for n in range(count):
        deliver(make_item(node, f"number {{n}}", id="1", event="updated", sequence=n), 1000)

if __name__ == "__main__":
{body}
"""


@pytest.fixture
def run(stack, tmp_path):
    """A function that runs a program which publishes on a node, to its end."""

    def run(node, body, returncode=0):
        path = tmp_path / "program.py"
        root = str(Path(__file__).parents[2])
        path.write_text(
            PROGRAM.format(
                root=root, settings=json.dumps(stack.settings, default=str), node=node, body=body
            )
        )
        done = subprocess.run(
            [sys.executable, "-W", "error", path], capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (returncode, "")

    return run


@pytest.mark.parametrize(
    "body",
    [
        "    update()",
        "    update(); sys.exit()",
        "    import threading; t = threading.Thread(target=update); t.start()",
        "    import multiprocessing as m; p = m.Process(target=update); p.start(); p.join()",
        "    publish('/home', 'connected').result(10); update()",
        "    if os.fork(): os.wait()\n    else: update()",
    ],
    ids=["end", "exit", "thread", "multiprocessing", "connected", "fork"],
)
def test_what_is_held_back_at_the_exit_reaches_the_server(stack, run, body):
    node = f"/test/exit/{os.urandom(4).hex()}"
    publish(node, "exists", item_id="0").result(10)
    with listening(stack.settings, node) as listener:
        run(node, body)
        assert [listener.next().text, listener.next().text] == ["number 0", "number 9"]


def test_rows_in_the_middle_of_which_a_process_ends_have_been_sent(stack, run):
    """What was published is sent before the process ends; its main thread goes on to the end."""
    node = f"/test/exit/{os.urandom(4).hex()}"
    publish(node, "exists", item_id="0").result(10)
    with listening(stack.settings, node) as listener:
        run(
            node,
            "    pubsub.register(Author, node=node)\n"
            "    pubsub.publish_rows(Author(pk=n, name=str(n)) for n in range(1, 1201))",
        )
        assert [listener.next().text for _ in range(1200)] == [str(n) for n in range(1, 1201)]


def test_a_process_that_is_terminated_in_the_middle_of_many_rows_ends_at_once(run):
    run(
        f"/test/exit/{os.urandom(4).hex()}",
        "    import itertools, signal\n"
        "    def rows():\n"
        "        for n in itertools.count(1):\n"
        "            if n == 1200: os.kill(os.getpid(), signal.SIGTERM)\n"
        "            yield Author(pk=n, name='x')\n"
        "    pubsub.register(Author, node=node)\n"
        "    pubsub.publish_rows(rows())",
        -signal.SIGTERM,
    )


def test_a_child_that_is_forked_in_the_middle_of_many_rows_publishes_on_its_own(register):
    register(Author)
    register(Badge)  # for the child: ejabberd 23.01 mixes up a node that two streams publish on
    node = f"/test/fork/{os.urandom(4).hex()}"
    publish(node, "exists").result(10)

    def rows():
        for n in range(1, 1001):
            if n == 700:
                child = os.fork()
                if child == 0:
                    code = 1
                    try:
                        signal.alarm(30)
                        publish(node, "from the child", item_id="child").result(20)
                        more = [Badge(code=str(n)) for n in range(600)]
                        code = 0 if pubsub.publish_rows(more).result(20) == 600 else 2
                    finally:
                        os._exit(code)
                children.append(child)
            yield Author(pk=n, name=str(n))

    children = []
    assert pubsub.publish_rows(rows()).result(20) == 1000
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0
    assert "child" in ids(node)


def test_requests_go_on_while_another_thread_publishes_many_rows(register):
    register(Author)
    many = threading.Thread(
        target=lambda: pubsub.publish_rows(Author(pk=n, name=str(n)) for n in range(1, 1501))
    )
    many.start()
    saved = 0
    while many.is_alive():
        assert publish("/home", str(saved), item_id="1").result(10) == "1"
        saved += 1
    many.join()
    assert saved > 1


# publish_model


@pytest.mark.parametrize("existing", [False, True])
def test_django_publishes_where_members_do(register, existing):
    node = f"/test/members-{existing}"
    if existing:
        nodes.create(node).result(10)
        nodes.configure(node, access_model="whitelist", publish_model="subscribers").result(10)
    register(Author, node=node, access="private", publish_model="members")
    author = Author.objects.create(name="Ada")
    until(lambda: ids(node) == [str(author.pk)], "the item is there")
    assert nodes.configuration(node).result(10)["publish_model"] == "subscribers"
