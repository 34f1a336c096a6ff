"""pubsub/context.py: whether publishing is muted, and who causes it, in each thread and task."""

import asyncio
import threading
import xml.etree.ElementTree as ET

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction

from pubsub import muted, publish, pubsub, retract
from pubsub.context import current_origin, is_muted, origin_of, originating
from tests.aio import close_connections, run
from tests.testapp.models import Author, Post

pytestmark = pytest.mark.django_db(transaction=True)


def test_saves_deletes_and_relations_are_silent_while_muted(sent, register):
    register(Post, m2m=["readers"])
    with muted():
        post = Post.objects.create(title="T")
        post.save()
        post.readers.add(Author.objects.create(name="Ada"))
        post.delete()
    assert sent == []
    Post.objects.create(title="T")
    assert len(sent) == 1


def test_what_is_published_by_hand_is_not_muted(sent, register):
    register(Author)
    with muted():
        author = Author.objects.create(name="Ada")
        publish("/home", "Hello")
        retract("/home", 7)
        pubsub.publish_rows([author])
    assert [item.node for item in sent] == ["/home", "/home", "/testapp/Author"]


def test_muting_ends_with_its_block_even_if_that_raises(sent, register):
    with pytest.raises(ZeroDivisionError), muted():
        assert is_muted()
        raise ZeroDivisionError
    assert not is_muted()


def test_muting_may_be_nested(sent, register):
    with muted():
        with muted():
            pass
        assert is_muted()
    assert not is_muted()


def test_a_function_may_be_muted(sent, register):
    register(Author)

    @muted()
    def silently():
        return Author.objects.create(name="Ada")

    silently()
    silently()
    assert sent == []
    assert not is_muted()


def test_it_counts_when_the_row_is_saved_not_when_that_is_committed(sent, register):
    register(Author)
    with transaction.atomic():
        loud = Author.objects.create(name="loud")
        with muted():
            Author.objects.create(name="silent")
    with muted(), transaction.atomic():
        Author.objects.create(name="silent")
    with muted():
        block = transaction.atomic()
        block.__enter__()
    Author.objects.create(name="loud, too")
    with muted():
        block.__exit__(None, None, None)
    assert [">loud" in item.payload for item in sent] == [True, True]
    assert sent[0].id == str(loud.pk)


def test_other_threads_are_not_muted():
    seen = []
    with muted():
        thread = threading.Thread(target=lambda: seen.append(is_muted()))
        thread.start()
        thread.join()
    assert seen == [False]


def test_a_thread_that_mutes_itself_mutes_no_other(sent, register):
    register(Author)
    is_inside, may_leave = threading.Event(), threading.Event()

    def silent():
        with muted():
            is_inside.set()
            may_leave.wait(10)
            Author.objects.create(name="silent")
        close_connections()

    thread = threading.Thread(target=silent)
    thread.start()
    assert is_inside.wait(10)
    Author.objects.create(name="loud")
    may_leave.set()
    thread.join()
    assert [">loud<" in item.payload for item in sent] == [True]


def test_other_tasks_are_not_muted():
    async def main():
        is_inside, may_leave = asyncio.Event(), asyncio.Event()

        async def silent():
            with muted():
                is_inside.set()
                await may_leave.wait()
                return is_muted()

        task = asyncio.create_task(silent())
        await is_inside.wait()
        here = is_muted()
        may_leave.set()
        return here, await task, is_muted()

    assert run(main()) == (False, True, False)


def test_the_async_orm_and_sync_to_async_are_muted_too(sent, register):
    register(Author)

    async def main():
        with muted():
            await Author.objects.acreate(name="silent")
            await sync_to_async(Author.objects.create)(name="silent")
            author = await Author.objects.afirst()
            await author.asave()
            await author.adelete()
        await Author.objects.acreate(name="loud")

    async_to_sync(main)()
    assert [">loud<" in item.payload for item in sent] == [True]


def test_a_muted_place_calls_async_code_muted(sent, register):
    register(Author)

    async def create():
        await Author.objects.acreate(name="silent")

    with muted():
        async_to_sync(create)()
    assert sent == []


# origin


def origins(items):
    return [
        ET.fromstring(item.payload).find("{urn:django-pubsub:1}meta").get("origin")
        for item in items
    ]


def test_what_a_client_causes_bears_its_origin(sent, register):
    register(Author)
    ada = origin_of("the id of Ada's page")
    with originating(ada):
        Author.objects.create(name="Ada")
        publish("/home", "Hello")
    Author.objects.create(name="nobody's")
    assert origins(sent) == [ada, ada, None]


def test_the_origin_is_that_of_the_change_not_of_the_commit(sent, register):
    register(Post, m2m=["readers"])
    post = Post.objects.create(title="T")
    sent.clear()
    first, second = origin_of("1"), origin_of("2")
    with originating(first), transaction.atomic():
        Post.objects.create(title="U")
        with originating(second):
            Author.objects.create(name="Ada").read.add(post)
    assert origins(sent) == [first, second]


def test_the_origin_goes_with_a_task_and_not_with_another(sent, register):
    register(Author)

    async def request(client):
        with originating(origin_of(client)):
            await asyncio.sleep(0)
            await Author.objects.acreate(name=client)
            await asyncio.sleep(0)
            return current_origin()

    async def main():
        return await asyncio.gather(request("a"), request("b"), request("c"))

    expected = [origin_of(client) for client in "abc"]
    assert async_to_sync(main)() == expected
    assert sorted(origins(sent)) == sorted(expected)
    assert current_origin() == ""


@pytest.mark.parametrize("client", ["", "x", "ü", "\ud800", "a" * 100_000])
def test_an_origin_is_22_characters_that_need_no_escape(client):
    origin = origin_of(client)
    assert len(origin) == 22
    assert set(origin) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


def test_different_clients_have_different_origins_and_one_has_always_the_same():
    assert origin_of("a") == origin_of("a") != origin_of("b")
    assert "a secret id" not in origin_of("a secret id")
