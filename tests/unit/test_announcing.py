"""pubsub/announcing.py: a row with relations is published as it is at the commit."""

from contextlib import nullcontext

import pytest
from django.db import transaction

from pubsub import Publication, pubsub
from pubsub.context import originating
from tests.testapp.models import Author, Post, Seat

pytestmark = pytest.mark.django_db(transaction=True)


def unheard(post, reader):
    """A change of a relation as another transaction makes it: it is there at our commit."""
    Post.readers.through.objects.bulk_create(
        [Post.readers.through(post_id=post.pk, author_id=reader.pk)]
    )


def test_what_others_have_related_until_the_commit_is_published_with_the_row(published, register):
    register(Post, m2m=["readers"], format="json", fields=["title", "readers"])
    reader = Author.objects.create(name="Ada")
    with transaction.atomic():
        post = Post.objects.create(title="T")
        unheard(post, reader)
    data = {"id": post.pk, "title": "T", "readers": [reader.pk]}
    published.assertPublished("/testapp/Post", count=1, event="created", payload=data)


def test_a_relation_that_is_not_published_leaves_the_columns_as_they_are_at_the_commit(
    published, register
):
    register(Post, m2m=["readers"], format="json", fields=["title"])
    post = Post.objects.create(title="T")
    with transaction.atomic():
        post.readers.add(Author.objects.create(name="Ada"))
        with pubsub.muted():
            Post.objects.filter(pk=post.pk).update(title="by somebody else")
    payload = {"id": post.pk, "title": "by somebody else"}
    published.assertPublished("/testapp/Post", count=1, event="updated", payload=payload)


def test_a_row_that_somebody_deletes_before_it_is_read_is_not_published(published, register):
    register(Post, m2m=["readers"])
    with transaction.atomic():
        post = Post.objects.create(title="T")
        Post.objects.filter(pk=post.pk)._raw_delete("default")
    published.assertNothingPublished()


def test_what_is_read_at_the_commit_bears_the_origin_of_the_save(published, register):
    register(Post, m2m=["readers"])
    with transaction.atomic(), originating("somebody"):
        Post.objects.create(title="T")
    assert 'origin="somebody"' in published.items[0].payload


def test_a_hook_that_fails_at_the_commit_is_told(published, register, caplog):
    class Failing(Publication):
        def get_payload(self, instance, event):
            raise ZeroDivisionError

    register(Post, Failing, m2m=["readers"])
    with transaction.atomic():
        post = Post.objects.create(title="T")
    published.assertNothingPublished()
    assert f"testapp.Post {post.pk} (created)" in caplog.text


def test_the_last_of_several_states_is_read_once(published, register, django_assert_num_queries):
    register(Post, m2m=["readers"])
    post = Post.objects.create(title="T")
    # BEGIN, 5 updates, COMMIT, the row, its readers.
    with django_assert_num_queries(9), transaction.atomic():
        for n in range(5):
            post.title = str(n)
            post.save()
    published.assertPublished("/testapp/Post", count=1, event="updated", payload={"title": "4"})


@pytest.mark.parametrize("in_transaction", [True, False])
def test_what_was_read_without_a_lock_says_so(published, register, in_transaction):
    """So that it overtakes nothing that commits later."""
    register(Post, m2m=["readers"])
    register(Author)
    with transaction.atomic() if in_transaction else nullcontext():
        Post.objects.create(title="T")
        Author.objects.create(name="Ada")
    assert {item.node: item.is_reread for item in published.items} == {
        "/testapp/Post": True,
        "/testapp/Author": False,
    }


def test_columns_that_were_not_saved_are_read_without_a_lock(published, register):
    register(Author)
    author = Author.objects.create(name="Ada")
    author.save(update_fields=["name"])
    assert [item.is_reread for item in published.items] == [False, True]


def test_rows_changed_in_bulk_are_locked_and_what_they_are_related_to_is_not(published, register):
    register(Seat)
    Seat.objects.bulk_create([Seat(number=1)])
    pubsub.unregister(Seat)
    register(Seat, m2m=["sitters"])
    Seat.objects.update(taken=True)
    pubsub.publish_rows(Seat.objects.all())
    assert [item.is_reread for item in published.items] == [False, True, True]


def test_a_place_that_is_left_is_retracted_with_the_number_of_its_state(published, register):
    class ByTitle(Publication):
        track = True

        def get_nodes(self, instance, event):
            return f"/{instance.title}"

    register(Post, ByTitle, m2m=["readers"])
    post = Post.objects.create(title="a")
    with transaction.atomic():
        for title in ("b", "c"):
            post.title = title
            post.save()
    told = [(item.node, item.is_retraction) for item in published.items]
    assert told == [("/a", False), ("/a", True), ("/c", False), ("/b", True)]
    assert all(item.sequence is not None for item in published.items)
