"""pubsub/announcing.py: a row with relations is published as it is at the commit."""

import pytest
from django.db import transaction

from pubsub import Publication, pubsub
from pubsub.context import originating
from tests.testapp.models import Author, Post

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
