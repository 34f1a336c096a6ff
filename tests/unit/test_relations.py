"""pubsub/relations.py: a changed many-to-many relation is an update of the rows on its side."""

import json
import xml.etree.ElementTree as ET

import pytest
from django.apps import apps
from django.db import transaction
from django.db.models.signals import m2m_changed

from pubsub import Publication
from tests.testapp.models import Author, Person, Place, Post, Restaurant

pytestmark = pytest.mark.django_db(transaction=True)

JSON = "{urn:xmpp:json:0}json"


def told(items):
    return [(item.node, item.id, item.event) for item in items]


def data_of(item):
    return json.loads(ET.fromstring(item.payload).findtext(JSON))


def readers_of(items):
    """Id of the item → keys of the readers that were published last."""
    return {item.id: data_of(item)["readers"] for item in items}


@pytest.fixture
def authors(db):
    return [Author.objects.create(name=name) for name in ("Ada", "Bo", "Cy")]


@pytest.fixture
def posts(db):
    return [Post.objects.create(title=title) for title in ("S", "T", "U")]


@pytest.fixture
def published(register, authors, posts, sent):
    """Posts are published with their readers."""
    register(Post, m2m=["readers"], format="json")
    return sent


# Forwards


def test_each_change_of_a_relation_publishes_the_row_once(published, posts, authors):
    post, (ada, bo, cy) = posts[0], authors
    for change, readers in [
        (lambda: post.readers.add(ada, bo), [ada, bo]),
        (lambda: post.readers.remove(ada), [bo]),
        (lambda: post.readers.set([ada, cy]), [ada, cy]),
        (lambda: post.readers.set([bo], clear=True), [bo]),
        (post.readers.clear, []),
    ]:
        published.clear()
        change()
        assert told(published) == [("/testapp/Post", str(post.pk), "updated")]
        assert data_of(published[0])["readers"] == [reader.pk for reader in readers]


def test_changes_that_are_none_publish_nothing(published, posts, authors):
    post, ada = posts[0], authors[0]
    post.readers.add(ada)
    ada.read.add(post)
    published.clear()
    post.readers.add(ada)
    post.readers.add()
    post.readers.remove()
    post.readers.set([ada])
    ada.read.add(post)
    ada.read.add()
    ada.read.set([post])
    authors[1].read.clear()
    authors[1].read.set([])
    assert published == []


def test_columns_that_are_not_saved_are_not_published_with_the_relation(published, posts, authors):
    posts[0].title = "unsaved"
    posts[0].readers.add(authors[0])
    assert data_of(published[0])["title"] == "S"
    assert posts[0].title == "unsaved"


def test_a_relation_that_is_not_asked_for_is_not_heard(sent, register, posts, authors):
    register(Post)
    assert not m2m_changed.has_listeners(Post.readers.through)
    posts[0].readers.add(authors[0])
    assert sent == []


def test_a_relation_that_is_excluded_counts_as_an_update_all_the_same(
    sent, register, posts, authors
):
    register(Post, m2m=["readers"], exclude=["readers"])
    posts[0].readers.add(authors[0])
    assert [item.event for item in sent] == ["updated"]
    assert "readers" not in sent[0].payload


def test_a_relation_is_not_published_where_updates_are_not(sent, register, posts, authors):
    register(Post, m2m=["readers"], events=["created", "deleted"])
    posts[0].readers.add(authors[0])
    authors[0].read.clear()
    assert sent == []


# From the other side


def test_each_change_from_the_other_side_publishes_each_row_once(published, posts, authors):
    ada, (s, t, u) = authors[0], posts
    for change, changed, left in [
        (lambda: ada.read.add(s, t), {s, t}, {s, t}),
        (lambda: ada.read.remove(s), {s}, {t}),
        (lambda: ada.read.set([s, u]), {s, t, u}, {s, u}),
        (lambda: ada.read.set([t, u], clear=True), {s, t, u}, {t, u}),
        (ada.read.clear, {t, u}, set()),
    ]:
        published.clear()
        change()
        assert sorted(item.id for item in published) == sorted(str(post.pk) for post in changed)
        assert {item.event for item in published} == {"updated"}
        assert readers_of(published) == {
            str(post.pk): [ada.pk] if post in left else [] for post in changed
        }


def test_changes_from_both_sides_in_a_transaction_publish_a_row_once(published, posts, authors):
    ada, bo, cy = authors
    with transaction.atomic():
        ada.read.add(*posts)
        posts[0].readers.add(bo)
        cy.read.add(posts[0])
        bo.read.add(posts[1])
    assert sorted(item.id for item in published) == sorted(str(post.pk) for post in posts)
    assert readers_of(published) == {
        str(posts[0].pk): [ada.pk, bo.pk, cy.pk],
        str(posts[1].pk): [ada.pk, bo.pk],
        str(posts[2].pk): [ada.pk],
    }


def test_a_relation_and_a_save_in_a_transaction_publish_a_row_once(published, posts, authors):
    post, ada = posts[0], authors[0]
    for changes in [[post.save, lambda: ada.read.add(post)], [ada.read.clear, post.save]]:
        published.clear()
        post.title += "!"
        with transaction.atomic():
            for change in changes:
                change()
        assert told(published) == [("/testapp/Post", str(post.pk), "updated")]
        assert data_of(published[0])["title"] == post.title
        assert data_of(published[0])["readers"] == list(post.readers.values_list("pk", flat=True))


def test_a_new_row_with_a_relation_from_the_other_side_is_created(published, authors):
    with transaction.atomic():
        post = Post.objects.create(title="new")
        authors[0].read.add(post)
    assert told(published) == [("/testapp/Post", str(post.pk), "created")]
    assert data_of(published[0])["readers"] == [authors[0].pk]


def test_a_row_that_is_deleted_after_its_relation_changed_is_deleted(published, posts, authors):
    pk = str(posts[0].pk)
    with transaction.atomic():
        authors[0].read.add(posts[0])
        posts[0].delete()
    assert told(published) == [("/testapp/Post", pk, "deleted")]


def test_a_savepoint_takes_its_relations_with_it_and_leaves_those_before(published, posts, authors):
    post, (ada, bo, cy) = posts[0], authors
    with transaction.atomic():
        ada.read.add(post)
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            bo.read.add(post)
            cy.read.add(*posts)
            raise ZeroDivisionError
    assert readers_of(published) == {str(post.pk): [ada.pk]}
    assert len(published) == 1


def test_many_rows_from_the_other_side_are_read_in_one_query(
    sent, register, authors, django_assert_max_num_queries
):
    register(Post, m2m=["readers"], exclude=["readers"])
    posts = Post.objects.bulk_create(Post(title=f"T{n}") for n in range(20))
    with django_assert_max_num_queries(6):
        authors[0].read.add(*posts)
    assert len({item.id for item in sent}) == 20


# Symmetrical


def test_friends_are_published_on_both_sides_once(sent, register):
    register(Person, m2m=["friends"], format="json")
    ada, bo, cy = (Person.objects.create(email=name) for name in ("ada", "bo", "cy"))
    everybody = {str(person.pk): person for person in (ada, bo, cy)}
    for change, concerned in [
        (lambda: ada.friends.add(bo), {ada, bo}),
        (lambda: bo.friends.remove(ada), {ada, bo}),
        (lambda: ada.friends.set([bo]), {ada, bo}),
        (lambda: ada.friends.set([cy]), {ada, bo, cy}),
        (cy.friends.clear, {ada, cy}),
    ]:
        sent.clear()
        change()
        assert sorted(item.id for item in sent) == sorted(str(person.pk) for person in concerned)
        for item in sent:
            friends = everybody[item.id].friends.values_list("pk", flat=True)
            assert data_of(item)["friends"] == list(friends)


def test_somebody_who_is_his_own_friend_is_published_once(sent, register):
    register(Person, m2m=["friends"], format="json")
    ada = Person.objects.create(email="ada")
    sent.clear()
    ada.friends.add(ada)
    assert [data_of(item)["friends"] for item in sent] == [[ada.pk]]


# Inherited


def test_a_relation_of_a_parent_is_one_of_its_children(sent, register, authors):
    register(Restaurant, m2m=["guests"], format="json")
    restaurant = Restaurant.objects.create(name="R", stars=3)
    sent.clear()
    restaurant.guests.add(authors[0])
    Place.objects.get().guests.add(authors[1])
    authors[2].place_set.add(restaurant.place_ptr)
    assert told(sent) == [("/testapp/Restaurant", str(restaurant.pk), "updated")] * 3
    assert [data_of(item)["stars"] for item in sent] == [3, 3, 3]
    assert data_of(sent[2])["guests"] == [author.pk for author in authors]


def test_a_relation_of_a_parent_that_is_no_child_is_none_of_its(sent, register, authors, caplog):
    register(Restaurant, m2m=["guests"])
    place = Place.objects.create(name="a bank")
    place.guests.add(authors[0])
    authors[0].place_set.clear()
    assert sent == []
    assert caplog.text == ""


def test_a_relation_changed_through_a_child_is_published_as_the_parents(sent, register, authors):
    register(Place, m2m=["guests"], format="json")
    restaurant = Restaurant.objects.create(name="R")
    sent.clear()
    restaurant.guests.add(authors[0])
    assert told(sent) == [("/testapp/Place", str(restaurant.pk), "updated")]
    assert data_of(sent[0])["guests"] == [authors[0].pk]


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_a_registered_proxy_hears_the_relations_of_what_is_one(sent, register, authors, side):
    class Column(Post):
        class Meta:
            proxy = True
            app_label = "testapp"

    try:
        register(Column, m2m=["readers"])
        post, column = Post.objects.create(title="T"), Column.objects.create(title="C")
        sent.clear()
        if side == "ours":
            post.readers.add(authors[0])  # as a save of it is none of the proxy's
            assert sent == []
            column.readers.add(authors[0])
        else:
            authors[0].read.add(column)
        assert told(sent) == [("/testapp/Column", str(column.pk), "updated")]
    finally:
        del apps.all_models["testapp"]["column"]
        apps.clear_cache()


# Nodes that depend on a relation


class ByReader(Publication):
    m2m = ["readers"]
    track = True

    def get_nodes(self, instance, event):
        return [f"/for/{reader.name}" for reader in instance.readers.order_by("name")]


@pytest.fixture
def by_reader(register, authors, posts, sent):
    register(Post, ByReader)
    return sent


def test_a_row_is_retracted_from_the_nodes_that_a_changed_relation_takes_it_off(
    by_reader, posts, authors
):
    post, (ada, bo, _) = posts[0], authors
    pk = str(post.pk)
    for change, expected in [
        (lambda: post.readers.add(ada), [("/for/Ada", "updated")]),
        (lambda: post.readers.set([bo]), [("/for/Bo", "updated"), ("/for/Ada", "deleted")]),
        (lambda: ada.read.add(post), [("/for/Ada", "updated"), ("/for/Bo", "updated")]),
        (lambda: ada.read.remove(post), [("/for/Bo", "updated"), ("/for/Ada", "deleted")]),
        (lambda: bo.read.clear(), [("/for/Bo", "deleted")]),
        (lambda: post.readers.add(ada, bo), [("/for/Ada", "updated"), ("/for/Bo", "updated")]),
        (lambda: post.readers.clear(), [("/for/Ada", "deleted"), ("/for/Bo", "deleted")]),
    ]:
        by_reader.clear()
        change()
        assert sorted(told(by_reader)) == sorted((node, pk, event) for node, event in expected)


@pytest.mark.parametrize("sides", ["ours", "theirs", "ours first", "theirs first"])
def test_a_row_that_moves_in_a_transaction_is_retracted_from_where_it_began(
    by_reader, posts, authors, sides
):
    post, (ada, bo, _) = posts[0], authors
    post.readers.add(ada)
    by_reader.clear()
    first_is_ours, second_is_ours = {
        "ours": (True, True),
        "theirs": (False, False),
        "ours first": (True, False),
        "theirs first": (False, True),
    }[sides]
    with transaction.atomic():
        if first_is_ours:
            post.readers.remove(ada)
        else:
            ada.read.remove(post)
        if second_is_ours:
            post.readers.add(bo)
        else:
            bo.read.add(post)
    pk = str(post.pk)
    assert sorted(told(by_reader)) == [("/for/Ada", pk, "deleted"), ("/for/Bo", pk, "updated")]


def test_a_relation_and_a_save_that_move_a_row_retract_it_from_where_it_began(
    by_reader, posts, authors
):
    post, (ada, bo, _) = posts[0], authors
    post.readers.add(ada)
    by_reader.clear()
    with transaction.atomic():
        ada.read.remove(post)
        post.save()
        bo.read.add(post)
    pk = str(post.pk)
    assert sorted(told(by_reader)) == [("/for/Ada", pk, "deleted"), ("/for/Bo", pk, "updated")]


def test_what_is_remembered_before_a_change_that_fails_is_forgotten(published, posts, authors):
    ada = authors[0]
    ada.read.add(posts[0])

    def refuse(sender, action, **kwargs):
        if action == "pre_clear":
            raise ZeroDivisionError

    m2m_changed.connect(refuse, sender=Post.readers.through)
    try:
        with pytest.raises(ZeroDivisionError):
            ada.read.clear()
    finally:
        m2m_changed.disconnect(refuse, sender=Post.readers.through)
    published.clear()
    posts[1].readers.add(ada)
    assert told(published) == [("/testapp/Post", str(posts[1].pk), "updated")]


def test_a_receiver_that_changes_another_row_meanwhile_disturbs_nothing(published, posts, authors):
    ada = authors[0]
    posts[0].readers.add(ada)
    posts[1].readers.add(ada)
    other = Author.objects.create(name="Dee")
    posts[2].readers.add(other)
    published.clear()

    def change(action, **kwargs):
        if action == "pre_clear":
            m2m_changed.disconnect(change, sender=Post.readers.through)
            other.read.clear()

    m2m_changed.connect(change, sender=Post.readers.through, weak=False)
    ada.read.clear()
    assert {item.id for item in published} == {str(post.pk) for post in posts}
