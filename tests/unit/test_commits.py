"""pubsub/commits.py: of each row the last state that is committed, once."""

import gc
import json
import logging
import threading
import weakref
import xml.etree.ElementTree as ET
from functools import partial

import hypothesis
import pytest
from django.db import connection, transaction
from django.test import override_settings
from hypothesis import example, given
from hypothesis import strategies as st

from pubsub import Publication, muted, publish, pubsub
from pubsub.backends import locmem
from pubsub.commits import rows_of
from pubsub.models import OutboxItem
from pubsub.relay.worker import item_of
from tests.aio import close_connections
from tests.testapp.models import Author, Penname, Post

pytestmark = pytest.mark.django_db(transaction=True)

JSON = "{urn:xmpp:json:0}json"


def told(items):
    return [(item.id, item.event) for item in items]


def named(items):
    """Events, with the names that are published."""
    return [(item.event, None if item.is_retraction else data_of(item)["name"]) for item in items]


def data_of(item):
    return json.loads(ET.fromstring(item.payload).findtext(JSON))


@pytest.fixture
def published(sent, register):
    """Authors are published as JSON."""
    register(Author, format="json")
    return sent


def rename(author, name):
    author.name = name
    author.save()


def waiting():
    """How many rows wait for the commit; what is but garbage does not count."""
    gc.collect()
    return len(rows_of(None))


def undone():
    """A savepoint that is rolled back at its end."""
    return pytest.raises(ZeroDivisionError), transaction.atomic()


# Several states in one transaction


def test_several_saves_publish_the_last_state_once(published):
    author = Author.objects.create(name="A")
    published.clear()
    with transaction.atomic():
        for name in "BCD":
            rename(author, name)
    assert named(published) == [("updated", "D")]


def test_a_row_that_is_saved_by_several_instances_is_one_row(published):
    author = Author.objects.create(name="A")
    published.clear()
    with transaction.atomic():
        rename(author, "B")
        rename(Author.objects.get(), "C")
        rename(Penname.objects.get(), "D")
    assert named(published) == [("updated", "D")]


def test_created_and_updated_is_created(published):
    with transaction.atomic():
        rename(Author.objects.create(name="A"), "B")
    assert named(published) == [("created", "B")]


def test_created_and_deleted_is_nothing(published):
    with transaction.atomic():
        author = Author.objects.create(name="A")
        rename(author, "B")
        author.delete()
    assert published == []


def test_updated_and_deleted_is_deleted(published):
    author = Author.objects.create(name="A")
    published.clear()
    pk = str(author.pk)
    with transaction.atomic():
        rename(author, "B")
        author.delete()
    assert told(published) == [(pk, "deleted")]


def test_deleted_and_created_is_updated(published):
    author = Author.objects.create(name="A")
    pk = author.pk
    published.clear()
    with transaction.atomic():
        author.delete()
        Author.objects.create(pk=pk, name="B")
    assert named(published) == [("updated", "B")]


def test_deleted_and_created_is_created_where_updates_are_not_published(sent, register):
    register(Author, events=["created", "deleted"], format="json")
    author = Author.objects.create(name="A")
    pk = author.pk
    sent.clear()
    with transaction.atomic():
        author.delete()
        Author.objects.create(pk=pk, name="B")
    assert named(sent) == [("created", "B")]


def test_deleted_created_and_deleted_is_deleted(published):
    author = Author.objects.create(name="A")
    pk = author.pk
    published.clear()
    with transaction.atomic():
        author.delete()
        Author.objects.create(pk=pk, name="B").delete()
    assert told(published) == [(str(pk), "deleted")]


def test_created_deleted_and_created_is_created(published):
    with transaction.atomic():
        author = Author.objects.create(name="A")
        pk = author.pk
        author.delete()
        Author.objects.create(pk=pk, name="B")
    assert named(published) == [("created", "B")]


def test_a_log_gets_the_last_state_only_too(sent, register):
    register(Author, item_id=None, format="json")
    with transaction.atomic():
        rename(Author.objects.create(name="A"), "B")
    assert named(sent) == [("created", "B")]


def test_each_publication_gets_the_last_state(sent, register):
    register(Author, format="json")
    register(Penname, format="json", node="/pennames")
    with transaction.atomic():
        author = Penname.objects.create(name="A")
        rename(author, "B")
    assert [(item.node, data_of(item)["name"]) for item in sent] == [
        ("/pennames", "B"),
        ("/testapp/Author", "B"),
    ]


def test_what_is_published_by_hand_stays_in_its_place(published):
    with transaction.atomic():
        author = Author.objects.create(name="A")
        publish("/home", "by hand")
        rename(author, "B")
    assert [item.node for item in published] == ["/home", "/testapp/Author"]


def test_the_second_transaction_knows_nothing_of_the_first(published):
    with transaction.atomic():
        author = Author.objects.create(name="A")
    with transaction.atomic():
        rename(author, "B")
    with transaction.atomic():
        author.delete()
    assert [event for event, _ in named(published)] == ["created", "updated", "deleted"]


def test_muted_saves_are_not_told_and_those_before_are(published):
    with transaction.atomic():
        author = Author.objects.create(name="A")
        with muted():
            rename(author, "B")
    assert [event for event, _ in named(published)] == ["created"]


# Rows that move


class ByName(Publication):
    track = True

    def get_nodes(self, instance, event):
        return f"/{instance.name}"


def test_a_row_that_moves_twice_is_retracted_from_where_it_began(sent, register):
    register(Author, ByName)
    author = Author.objects.create(name="A")
    sent.clear()
    with transaction.atomic():
        rename(author, "B")
        rename(author, "C")
    assert {(item.node, item.event) for item in sent} >= {("/A", "deleted"), ("/C", "updated")}
    assert ("/B", "updated") not in {(item.node, item.event) for item in sent}


def test_a_row_that_moves_and_comes_back_is_not_retracted_from_where_it_is(sent, register):
    register(Author, ByName)
    author = Author.objects.create(name="A")
    sent.clear()
    with transaction.atomic():
        rename(author, "B")
        rename(author, "A")
    assert ("/A", "updated") in {(item.node, item.event) for item in sent}
    assert ("/A", "deleted") not in {(item.node, item.event) for item in sent}


def test_a_new_row_that_moves_was_nowhere_before(sent, register):
    register(Author, ByName)
    with transaction.atomic():
        rename(Author.objects.create(name="A"), "B")
    assert [(item.node, item.event) for item in sent] == [("/B", "created")]


def test_a_row_that_moves_and_is_deleted_is_retracted_from_where_it_began(sent, register):
    register(Author, ByName)
    author = Author.objects.create(name="A")
    sent.clear()
    with transaction.atomic():
        rename(author, "B")
        author.delete()
    assert ("/A", "deleted") in {(item.node, item.event) for item in sent}
    assert {item.event for item in sent} == {"deleted"}


def test_a_move_that_is_rolled_back_retracts_nothing(sent, register):
    register(Author, ByName)
    author = Author.objects.create(name="A")
    sent.clear()
    with transaction.atomic():
        author.save()
        raises, savepoint = undone()
        with raises, savepoint:
            rename(author, "B")
            raise ZeroDivisionError
    assert [(item.node, item.event) for item in sent] == [("/A", "updated")]


# Savepoints


@pytest.mark.parametrize(
    ("undo", "published_name"),
    [
        ((False, False, False), "C"),
        ((True, False, False), None),
        ((False, True, False), "A"),
        ((False, False, True), "B"),
        ((False, True, True), "A"),
    ],
)
def test_a_rollback_at_each_level_revives_what_came_before(published, undo, published_name):
    author = Author.objects.create(name="-")
    published.clear()

    def level(names, undone):
        try:
            with transaction.atomic():
                rename(author, names[0])
                if len(names) > 1:
                    level(names[1:], undone[1:])
                if undone[0]:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            pass

    level("ABC", undo)
    expected = [] if published_name is None else [("updated", published_name)]
    assert named(published) == expected
    assert Author.objects.get().name == published_name or published_name is None


def test_a_creation_that_is_rolled_back_is_none_for_what_follows(published):
    author = Author.objects.create(name="A")
    pk = author.pk
    published.clear()
    with transaction.atomic():
        author.delete()
        raises, savepoint = undone()
        with raises, savepoint:
            Author.objects.create(pk=pk, name="B")
            raise ZeroDivisionError
    assert told(published) == [(str(pk), "deleted")]


def test_a_deletion_that_is_rolled_back_is_none_for_what_follows(published):
    with transaction.atomic():
        author = Author.objects.create(name="A")
        raises, savepoint = undone()
        with raises, savepoint:
            Author.objects.get().delete()
            raise ZeroDivisionError
        rename(author, "B")
    assert named(published) == [("created", "B")]


def test_a_transaction_that_is_rolled_back_leaves_nothing_for_the_next(published):
    author = Author.objects.create(name="A")
    published.clear()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        author.delete()
        raise ZeroDivisionError
    assert waiting() == 0
    with transaction.atomic():
        rename(Author.objects.get(), "B")
    assert named(published) == [("updated", "B")]


OPERATIONS = st.one_of(
    st.tuples(st.sampled_from(["create", "save", "delete", "touch"]), st.integers(1, 3)),
    st.just(("begin", 0)),
    st.just(("commit", 0)),
    st.just(("undo", 0)),
)


@pytest.mark.parametrize("backend", ["locmem.LocmemBackend", "outbox.OutboxBackend"])
@given(operations=st.lists(OPERATIONS, max_size=14), existing=st.sets(st.integers(1, 3)))
@hypothesis.settings(max_examples=30)
@example(operations=[("delete", 1), ("begin", 0), ("create", 1), ("undo", 0)], existing={1})
@example(
    operations=[("create", 1), ("begin", 0), ("delete", 1), ("commit", 0), ("create", 1)],
    existing=set(),
)
def test_what_is_published_at_the_commit_is_what_the_table_holds(backend, operations, existing):
    """Whatever is done in a transaction, and undone: one item at most for each row."""
    with override_settings(PUBSUB_BACKEND=f"pubsub.backends.{backend}"):
        check_what_is_published(operations, existing)


def check_what_is_published(operations, existing):
    OutboxItem.objects.all().delete()
    with muted():
        Author.objects.all().delete()
        for pk in existing:
            Author.objects.create(pk=pk, name="before")
    before = dict(Author.objects.values_list("pk", "name"))
    locmem.items.clear()
    pubsub.register(Author, format="json")
    try:
        with transaction.atomic():
            savepoints = []
            for number, (operation, pk) in enumerate(operations):
                if operation == "begin":
                    savepoints.append(transaction.atomic())
                    savepoints[-1].__enter__()
                elif operation in ("commit", "undo"):
                    if savepoints:
                        error = ZeroDivisionError() if operation == "undo" else None
                        savepoints.pop().__exit__(type(error) if error else None, error, None)
                else:
                    change(operation, pk, f"{operation} {number}")
            while savepoints:
                savepoints.pop().__exit__(None, None, None)
    finally:
        pubsub.unregister(Author)
    after = dict(Author.objects.values_list("pk", "name"))
    sent = [*locmem.items, *map(item_of, OutboxItem.objects.order_by("pk"))]
    items = {int(item.id): item for item in sent}
    assert len(items) == len(sent)
    for pk in before.keys() | after.keys() | items.keys():
        item = items.get(pk)
        if item is None:
            assert before.get(pk) == after.get(pk)
        elif item.is_retraction:
            assert pk in before
            assert pk not in after
        else:
            assert data_of(item)["name"] == after[pk]
            assert item.event == ("updated" if pk in before else "created")
    assert waiting() == 0


def change(operation, pk, name):
    """Create, save or delete a row, if it can be."""
    author = Author.objects.filter(pk=pk).first()
    if operation == "create" and author is None:
        Author.objects.create(pk=pk, name=name)
    elif author is not None and operation == "save":
        rename(author, name)
    elif author is not None and operation == "touch":
        Penname.objects.get(pk=pk).save(update_fields=["name"])
    elif author is not None and operation == "delete":
        author.delete()


# Databases, threads, memory


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_rows_of_two_databases_are_two_rows(published):
    with transaction.atomic(), transaction.atomic(using="other"):
        Author(pk=1, name="here").save()
        Author(pk=1, name="there").save(using="other")
        Author.objects.using("other").get().save()
    assert sorted(named(published)) == [("created", "here"), ("created", "there")]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_one_database_may_roll_back_while_the_other_commits(published):
    with transaction.atomic():
        Author(pk=1, name="here").save()
        with pytest.raises(ZeroDivisionError), transaction.atomic(using="other"):
            Author(pk=1, name="there").save(using="other")
            raise ZeroDivisionError
    assert named(published) == [("created", "here")]


def test_what_waits_in_one_thread_is_not_seen_by_another(published):
    seen = []

    def other():
        seen.append(waiting())
        close_connections()

    with transaction.atomic():
        Author.objects.create(name="A")
        assert waiting() == 1
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert seen == [0]


def test_nothing_is_kept_after_a_commit_and_a_rollback(published):
    with transaction.atomic():
        author = Author.objects.create(name="A")
        rename(author, "B")
        raises, savepoint = undone()
        with raises, savepoint:
            rename(author, "C")
            raise ZeroDivisionError
        assert waiting() == 1
    assert waiting() == 0
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        rename(author, "D")
        raise ZeroDivisionError
    assert waiting() == 0


def test_instances_are_not_kept_until_the_commit(published):
    """What is to be published is frozen: the row itself may go."""
    with transaction.atomic():
        instance = weakref.ref(Author.objects.create(name="A"))
        gc.collect()
        assert instance() is None
    assert named(published) == [("created", "A")]


def test_a_closed_connection_forgets_what_waited(published):
    connection.ensure_connection()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Author.objects.create(name="A")
        raise ZeroDivisionError
    assert waiting() == 0


def test_rows_whose_hooks_failed_are_not_kept(sent, register, caplog):
    def get_payload(self, instance, event):
        raise LookupError

    caplog.set_level(logging.CRITICAL, "pubsub")  # a log record would keep the traceback
    post = Post.objects.create(title="T")
    register(Post, m2m=["readers"], get_payload=get_payload)
    kept = []
    with transaction.atomic():
        post.save()
        post.readers.add(Author.objects.create(name="A"))
        Author.objects.get().read.clear()
        rows = rows_of(None)
        kept += [weakref.ref(row) for row in rows._rows.values()]
    gc.collect()
    assert [row() for row in kept] == [None]
    assert sent == []


def test_savepoints_that_are_rolled_back_one_after_the_other_leave_no_trace(published):
    author = Author.objects.create(name="A")
    published.clear()
    with transaction.atomic():
        author.save()
        row = rows_of(None).get((pubsub.publication_for(Author), str(author.pk)))
        for _ in range(50):
            raises, savepoint = undone()
            with raises, savepoint:
                author.save()
                raise ZeroDivisionError
        assert len(row._waiting) <= 2
    assert named(published) == [("updated", "A")]


# Callbacks of others


def test_a_callback_that_saves_a_row_again_has_the_last_word(published):
    author = Author.objects.create(name="A")
    published.clear()
    with transaction.atomic():
        rename(author, "B")
        transaction.on_commit(partial(rename, author, "C"))
        rename(author, "D")
    assert named(published) == [("updated", "C")]


def test_a_callback_that_saves_a_new_row_again_before_it_is_told_tells_it_as_created(published):
    with transaction.atomic():
        author = Author.objects.create(name="A")
        transaction.on_commit(partial(rename, author, "C"))
        rename(author, "D")
    assert named(published) == [("created", "C")]


def test_a_transaction_in_a_callback_has_the_last_word(published):
    def again():
        with transaction.atomic():
            rename(author, "C")
            rename(author, "E")

    author = Author.objects.create(name="A")
    published.clear()
    with transaction.atomic():
        rename(author, "B")
        transaction.on_commit(again)
        rename(author, "D")
    assert named(published) == [("updated", "E")]


def test_a_callback_that_deletes_a_row_has_the_last_word(published):
    author = Author.objects.create(name="A")
    pk = str(author.pk)
    published.clear()
    with transaction.atomic():
        rename(author, "B")
        transaction.on_commit(lambda: Author.objects.all().delete())
        rename(author, "D")
    assert told(published) == [(pk, "deleted")]


@pytest.mark.parametrize("in_transaction", [True, False])
def test_a_callback_that_moves_a_row_back_leaves_it_there(sent, register, in_transaction):
    def again():
        if in_transaction:
            with transaction.atomic():
                rename(author, "A")
        else:
            rename(author, "A")

    register(Author, ByName)
    author = Author.objects.create(name="A")
    sent.clear()
    with transaction.atomic():
        rename(author, "B")
        transaction.on_commit(again)
        rename(author, "D")
    on = set()
    for item in sent:
        (on.discard if item.is_retraction else on.add)(item.node)
    assert on == {"/A"}


# What goes wrong


def test_a_hook_that_raises_in_the_second_save_keeps_the_first_state_back(sent, register, caplog):
    """The first state is nowhere but in the past of this transaction."""

    def get_payload(self, instance, event):
        if instance.name == "bad":
            raise LookupError("a bad name")
        return {"name": instance.name}

    register(Author, get_payload=get_payload)
    with transaction.atomic():
        author = Author.objects.create(name="A")
        rename(author, "bad")
    assert sent == []
    assert Author.objects.get().name == "bad"
    assert "a bad name" in caplog.text
    with transaction.atomic():
        rename(author, "bad")
        rename(author, "B")
    assert named(sent) == [("updated", "B")]


def test_a_hook_that_raises_in_a_savepoint_that_is_rolled_back_keeps_nothing_back(
    sent, register, caplog
):
    def get_payload(self, instance, event):
        if instance.name == "bad":
            raise LookupError
        return {"name": instance.name}

    register(Author, get_payload=get_payload)
    with transaction.atomic():
        author = Author.objects.create(name="A")
        raises, savepoint = undone()
        with raises, savepoint:
            rename(author, "bad")
            raise ZeroDivisionError
    assert named(sent) == [("created", "A")]


def test_a_created_row_that_failed_once_is_created_all_the_same(sent, register, caplog):
    def get_payload(self, instance, event):
        if instance.name == "bad":
            raise LookupError
        return {"name": instance.name}

    register(Author, get_payload=get_payload)
    with transaction.atomic():
        author = Author.objects.create(name="bad")
        rename(author, "B")
    assert named(sent) == [("created", "B")]


def test_a_robust_callback_of_another_app_that_raises_takes_nothing_along(published, caplog):
    def broken():
        raise LookupError

    with transaction.atomic():
        transaction.on_commit(broken, robust=True)
        author = Author.objects.create(name="A")
        transaction.on_commit(broken, robust=True)
        rename(author, "B")
    assert named(published) == [("created", "B")]


def test_a_callback_of_another_app_that_saves_in_a_transaction_is_published(published):
    def again():
        with transaction.atomic():
            rename(Author.objects.get(), "B")

    with transaction.atomic():
        Author.objects.create(name="A")
        transaction.on_commit(again)
    assert named(published) == [("created", "A"), ("updated", "B")]


def test_a_hook_may_save_other_rows(sent, register):
    def get_payload(self, instance, event):
        Author.objects.filter(pk=instance.author_id).get().save()
        return "saved"

    register(Author)
    register(Post, get_payload=get_payload)
    with transaction.atomic():
        Post.objects.create(title="T", author=Author.objects.create(name="A"))
    assert sorted((item.node, item.event) for item in sent) == [
        ("/testapp/Author", "created"),
        ("/testapp/Post", "created"),
    ]
