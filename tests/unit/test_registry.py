"""pubsub/registry.py: which saves are published, and that a save never suffers from it."""

import logging

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import Model
from django.db.models.signals import post_delete, pre_delete, pre_save
from django.test.utils import CaptureQueriesContext

from pubsub import Publication, publish, pubsub
from pubsub.exceptions import AlreadyRegistered, NotRegistered, RegistrationError
from pubsub.nodes import declared
from pubsub.signals import publish_failed
from tests.testapp.models import Author, Initials, Penname, Post, Ticket, Timed

pytestmark = pytest.mark.django_db(transaction=True)


def told(items):
    return [(item.node, item.id, item.event) for item in items]


def test_create_save_and_delete_are_published_on_the_models_node(sent, register):
    register(Author)
    author = Author.objects.create(name="Ada")
    author.name = "Bo"
    author.save()
    pk = str(author.pk)
    author.delete()
    assert told(sent) == [
        ("/testapp/Author", pk, "created"),
        ("/testapp/Author", pk, "updated"),
        ("/testapp/Author", pk, "deleted"),
    ]
    assert ">Ada<" in sent[0].payload
    assert ">Bo<" in sent[1].payload


def test_an_iterable_of_models_registers_them_all(sent, register):
    register(iter([Author, Post]))
    Post.objects.create(title="T", author=Author.objects.create(name="Ada"))
    assert [item.node for item in sent] == ["/testapp/Author", "/testapp/Post"]


def test_unregistered_models_are_not_published(sent, register):
    register([Author, Post])
    pubsub.unregister(Author)
    Author.objects.create(name="Ada")
    assert sent == []
    assert not pubsub.is_registered(Author)
    assert pubsub.is_registered(Post)


def test_a_save_through_a_proxy_is_a_save_of_the_model(sent, register):
    register(Author)
    Penname.objects.create(name="George Eliot").delete()
    assert [(item.node, item.event) for item in sent] == [
        ("/testapp/Author", "created"),
        ("/testapp/Author", "deleted"),
    ]


def test_a_registered_proxy_publishes_what_is_saved_through_it_and_so_does_its_model(
    sent, register
):
    register([Author, Penname])
    Penname.objects.create(name="George Eliot")
    Author.objects.create(name="Ada")
    assert [item.node for item in sent] == [
        "/testapp/Penname",
        "/testapp/Author",
        "/testapp/Author",
    ]


def test_a_proxy_defined_after_the_registration_is_heard_too(sent, register):
    register(Author)

    class LateName(Author):
        class Meta:
            proxy = True
            app_label = "testapp"

    try:
        LateName.objects.create(name="George Sand")
        assert [item.node for item in sent] == ["/testapp/Author"]
    finally:
        del apps.all_models["testapp"]["latename"]
        apps.clear_cache()


def test_a_proxy_is_heard_with_its_model_and_otherwise_stands_for_itself(register):
    heard = [model for model in (Author, Penname, Initials) if post_delete.has_listeners(model)]
    assert heard == []
    register(Penname)
    heard = [model for model in (Author, Penname, Initials) if post_delete.has_listeners(model)]
    assert heard == [Penname, Initials]
    register(Author)
    assert all(post_delete.has_listeners(model) for model in (Author, Penname, Initials))
    pubsub.unregister([Author, Penname])
    assert not any(post_delete.has_listeners(model) for model in (Author, Penname, Initials))


def test_the_publications_are_found_by_the_nodes_that_they_name(register):
    register(Author, node=["/all", "/authors"])
    register(Post, node="/all")
    authors, posts = map(pubsub.publication_for, (Author, Post))
    found = pubsub.publications_by_node
    assert (found["/all"], found["/authors"]) == ([authors, posts], [authors])


def test_what_is_not_registered_is_deleted_without_being_read(sent, register):
    register(Post)
    Ticket.objects.create()
    with CaptureQueriesContext(connection) as queries:
        Ticket.objects.all().delete()
    assert [q["sql"] for q in queries if q["sql"].startswith("SELECT")] == []
    assert not Ticket.objects.exists()


def test_the_states_of_rows_are_numbered_as_they_are_seen(sent, register):
    register(Author)
    author = Author.objects.create(name="Ada")
    author.save()
    author.delete()
    numbers = [item.sequence for item in sent]
    assert numbers == sorted(set(numbers))
    publish("/home", "by hand")
    assert sent[-1].sequence is None


def test_the_registry_publishes_by_hand_too(sent):
    pubsub.publish("/home", "Hello").result(1)
    pubsub.retract("/home", 7).result(1)
    assert [item.node for item in sent] == ["/home", "/home"]


def test_without_autocommit_a_save_is_kept_and_told_to_be_unpublished(sent, register, caplog):
    register(Author)
    transaction.set_autocommit(False)
    try:
        Author.objects.create(name="Ada")
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    assert Author.objects.count() == 1
    assert sent == []
    assert "on_commit() cannot be used" in caplog.text


def test_fixtures_are_not_published(sent, register, tmp_path):
    register(Author)
    fixture = tmp_path / "authors.json"
    fixture.write_text('[{"model": "testapp.author", "pk": 1, "fields": {"name": "Ada"}}]')
    call_command("loaddata", str(fixture), verbosity=0)
    assert Author.objects.get().name == "Ada"
    assert sent == []


def test_a_save_is_published_when_its_transaction_commits(sent, register):
    register(Author)
    with transaction.atomic():
        Author.objects.create(name="Ada")
        assert sent == []
    assert len(sent) == 1


def test_a_save_that_is_rolled_back_is_not_published(sent, register):
    register(Author)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Author.objects.create(name="Ada")
        raise ZeroDivisionError
    assert sent == []


def test_a_savepoint_that_is_rolled_back_takes_its_items_with_it(sent, register):
    register(Author)
    with transaction.atomic():
        Author.objects.create(name="kept")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Author.objects.create(name="lost")
            raise ZeroDivisionError
    assert [">kept<" in item.payload for item in sent] == [True]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_save_waits_for_the_commit_of_its_own_database(sent, register):
    register(Author)
    with transaction.atomic(using="other"):
        Author(name="Ada").save(using="default")
        assert len(sent) == 1
        Author(name="Bo").save(using="other")
        assert len(sent) == 1
    assert len(sent) == 2


def test_a_model_is_registered_once(register):
    register(Author)
    with pytest.raises(AlreadyRegistered, match=r"testapp\.Author"):
        register(Author)
    with pytest.raises(AlreadyRegistered):
        register([Post, Post])


def test_nothing_is_registered_when_one_of_several_cannot_be(register):
    register(Author)
    with pytest.raises(AlreadyRegistered):
        register([Post, Author])
    assert not pubsub.is_registered(Post)


def test_unregistering_what_is_not_registered_is_an_error():
    with pytest.raises(NotRegistered, match=r"testapp\.Post"):
        pubsub.unregister(Post)


@pytest.mark.parametrize(
    "model", ["testapp.Author", None, 7, Model, object, [Author, "x"], Author(name="x")]
)
def test_what_is_no_model_cannot_be_registered(model):
    with pytest.raises(RegistrationError, match="model class"):
        pubsub.register(model)
    assert not pubsub.is_registered(Author)


def test_a_model_is_registered_with_a_class_of_its_own(sent, register):
    class Loud(Publication):
        node = "/loud"

    register(Author, Loud)
    Author.objects.create(name="Ada")
    assert [item.node for item in sent] == ["/loud"]
    assert type(pubsub.publication_for(Author)) is Loud
    assert pubsub.publication_for(Author).model is Author


def test_options_go_before_those_of_the_class(sent, register):
    class Loud(Publication):
        node = "/loud"
        events = ["created"]

    register([Author, Post], Loud, node="/louder")
    author = Author.objects.create(name="Ada")
    Post.objects.create(title="T")
    author.save()
    assert [item.node for item in sent] == ["/louder", "/louder"]
    assert isinstance(pubsub.publication_for(Author), Loud)
    assert Loud.node == "/loud"


@pytest.mark.parametrize("options", [{}, {"node": "/options"}])
def test_a_publication_is_decorated(sent, register, options):
    @register([Author, Post], **options)
    class Quiet(Publication):
        node = "/class"
        events = ["created"]

    author = Author.objects.create(name="Ada")
    author.save()
    Post.objects.create(title="T")
    assert [item.node for item in sent] == [options.get("node", "/class")] * 2
    assert isinstance(pubsub.publication_for(Post), Quiet)
    assert len(pubsub.publications) == len({p.model for p in pubsub.publications})


def test_what_is_given_a_class_decorates_none(register):
    decorate = register(Author, Publication)
    with pytest.raises(RegistrationError, match="one of the two"):
        decorate(Publication)
    assert pubsub.is_registered(Author)


@pytest.mark.parametrize("what", [object, Publication(Author), "Publication", 7, lambda: None])
def test_what_is_no_publication_is_refused(register, what):
    with pytest.raises(RegistrationError, match=r"no subclass of pubsub\.Publication"):
        register(Author, what)
    assert not pubsub.is_registered(Author)
    with pytest.raises(RegistrationError, match=r"no subclass of pubsub\.Publication"):
        register(Author)(what)
    assert not pubsub.is_registered(Author)


def test_an_option_that_does_not_exist_is_refused_by_name(register):
    with pytest.raises(RegistrationError, match="'formt', 'nodees'"):
        register(Author, node="/a", formt="json", nodees=[])
    assert not pubsub.is_registered(Author)
    assert declared("/a") == {}


@pytest.mark.parametrize("node", [7, [["/a"]], 1.5])
def test_a_node_that_is_none_keeps_all_from_being_registered(register, node):
    with pytest.raises(RegistrationError, match="node = "):
        register([Author, Post], node=node)
    assert not pubsub.is_registered(Author)
    assert not pubsub.is_registered(Post)


@pytest.mark.parametrize("m2m", [7, None, "readers", ["no_such_field"], ["title"]])
def test_relations_that_are_none_are_left_to_the_system_checks(register, m2m):
    register(Post, m2m=m2m)
    assert pubsub.is_registered(Post)


def test_the_publication_of_what_is_not_registered_is_an_error():
    with pytest.raises(NotRegistered, match=r"testapp\.Post"):
        pubsub.publication_for(Post)


def test_unregistering_takes_back_what_was_declared_of_the_nodes(register):
    register(Author, node=["/a", "/b"], max_items=5)
    register(Post, node="/b", expire=60)
    assert declared("/a") == {"max_items": 5}
    assert declared("/b") == {"max_items": 5, "item_expire": 60}
    pubsub.unregister(Author)
    assert declared("/a") == {}
    assert declared("/b") == {"item_expire": 60}
    register(Author, node="/b", max_items=7)
    assert declared("/b") == {"max_items": 7, "item_expire": 60}


def test_a_decorated_publication_declares_its_nodes_once(register):
    @register(Author, max_items=5)
    class Quiet(Publication):
        node = "/quiet"

    assert declared("/quiet") == {"max_items": 5}
    assert declared("/testapp/Author") == {}
    pubsub.unregister(Author)
    assert declared("/quiet") == {}


def test_a_model_may_be_registered_again_after_it_was_unregistered(sent, register):
    register(Author, node="/first")
    pubsub.unregister(Author)
    register(Author, node="/second")
    Author.objects.create(name="Ada")
    assert [item.node for item in sent] == ["/second"]


def test_only_what_tracks_is_heard_before_a_save(register):
    register(Author)
    assert not pre_save.has_listeners(Author)
    assert not pre_delete.has_listeners(Author)
    register(Post, track=True)
    assert pre_save.has_listeners(Post)
    assert pre_delete.has_listeners(Post)


def test_abstract_models_cannot_be_registered():
    with pytest.raises(RegistrationError, match="abstract"):
        pubsub.register(Timed)


def test_a_save_that_cannot_be_published_is_saved_and_logged(sent, register, caplog):
    register(Author)
    failures = []
    publish_failed.connect(lambda **kw: failures.append(kw), weak=False, dispatch_uid="test")
    try:
        author = Author.objects.create(name="\x08")
    finally:
        publish_failed.disconnect(dispatch_uid="test")
    assert Author.objects.get().name == "\x08"
    assert sent == []
    assert failures[0]["about"] == f"testapp.Author {author.pk} (created)"
    assert isinstance(failures[0]["error"], ValueError)
    assert [(r.name, r.levelno) for r in caplog.records] == [("pubsub", logging.ERROR)]
    assert "testapp.Author" in caplog.text
    assert "Traceback" not in caplog.text  # our own errors say all there is to say


@pytest.mark.parametrize("in_transaction", [True, False])
def test_a_save_goes_on_without_a_backend(register, settings, caplog, in_transaction):
    settings.PUBSUB_BACKEND = "no.such.Backend"
    register(Author)
    if in_transaction:
        with transaction.atomic():
            Author.objects.create(name="Ada")
    else:
        Author.objects.create(name="Ada")
    assert Author.objects.count() == 1
    assert "no.such.Backend" in caplog.text


@pytest.mark.parametrize("name", ["nodes", "field_names", "configuration", "_x", "nodee"])
def test_what_is_no_option_cannot_be_given(name):
    with pytest.raises(RegistrationError, match=f"no option '{name}'"):
        pubsub.register(Author, **{name: ["/a"]})
    assert not pubsub.is_registered(Author)
