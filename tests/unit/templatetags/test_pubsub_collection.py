"""pubsub/lists.py: what {% pubsub_collection %} says of a list, and what it refuses to say."""

import pytest
from django.template import Context, Template, TemplateSyntaxError

from pubsub import Publication
from pubsub.backends import get_backend
from tests.testapp.models import Author, Penname, Pizzeria, Post, Ticket


@pytest.fixture(autouse=True)
def ensured(settings, monkeypatch):
    """The nodes that were to be created, with their configuration."""
    settings.PUBSUB_BACKEND = "pubsub.backends.dummy.DummyBackend"
    nodes = []
    monkeypatch.setattr(get_backend(), "ensure_node", lambda *told: nodes.append(told))
    return nodes


def render(arguments, **context):
    return Template(f"{{% load pubsub %}}{{% pubsub_collection {arguments} %}}").render(
        Context(context)
    )


@pytest.mark.parametrize("source", [Author, Author(), "testapp.Author", "/testapp/Author"])
def test_a_list_is_of_a_model_a_row_a_label_or_a_node(register, source):
    register(Author)
    assert render("source", source=source) == 'data-pubsub-collection="/testapp/Author"'


def test_an_order_and_a_limit_go_along(register):
    register(Author)
    assert render('"testapp.Author" order="-name" limit=50') == (
        'data-pubsub-collection="/testapp/Author" data-pubsub-order="-name" data-pubsub-limit="50"'
    )


def test_none_is_no_order_and_no_limit(register):
    register(Author)
    html = render("model order=order limit=limit", model=Author, order=None, limit=None)
    assert html == 'data-pubsub-collection="/testapp/Author"'


def test_a_list_is_of_the_first_node_that_a_model_names(register):
    register(Author, node=["/authors", "/all"])
    assert render("model", model=Author) == 'data-pubsub-collection="/authors"'


@pytest.mark.parametrize("node", ["/home", "home", "blog.news", "a.b.c", "testapp.Missing"])
def test_any_text_is_a_node_that_names_no_model(node):
    assert render("node order='-any' limit=5000", node=node) == (
        f'data-pubsub-collection="{node}" data-pubsub-order="-any" data-pubsub-limit="5000"'
    )


def test_nothing_breaks_out_of_an_attribute():
    html = """data-pubsub-collection="/&lt;&quot;&amp;amp;" data-pubsub-order="&quot;&gt;\""""
    assert render("node order=order", node='/<"&amp;', order='">') == html
    assert render("""'/<"&amp;' order='">'""") == html


def test_the_node_is_created_before_the_first_item(register, ensured):
    register(Author, access="private")
    render("model", model=Author)
    render('"/home"')
    assert ensured == [("/testapp/Author", {"access_model": "whitelist"}), ("/home", {})]


class ByAuthor(Publication):
    def get_nodes(self, instance, event):
        return f"/author/{instance.author_id}"


@pytest.mark.parametrize(
    ("options", "is_created"),
    [({}, True), ({"access": "private"}, False), ({"max_items": 9}, False)],
)
def test_a_node_that_a_row_would_create_otherwise_is_left_to_it(
    register, ensured, options, is_created
):
    register(Post, ByAuthor, **options)
    register(Author)
    render('"/author/7"')
    render('"/testapp/Author"')
    assert [node for node, _ in ensured] == [*["/author/7"] * is_created, "/testapp/Author"]


def test_a_publication_that_does_not_know_the_node_keeps_it_from_being_created(register, ensured):
    class Choosy(ByAuthor):
        def get_configuration(self, node):
            return {"max_items": {"/author/7": 9}[node]}

    register(Post, Choosy, node=())
    assert render('"/home"') == 'data-pubsub-collection="/home"'
    assert ensured == []


@pytest.mark.parametrize("source", ["", None, 7, ["/home"], b"/home"])
def test_what_names_nothing_is_refused(source):
    with pytest.raises(TemplateSyntaxError, match="neither a registered model nor") as refused:
        render("source", source=source)
    assert repr(source) in str(refused.value)


def test_a_variable_that_is_missing_is_refused():
    with pytest.raises(
        TemplateSyntaxError, match=r"'' is neither .* a variable that is in the con"
    ):
        render("statuses")


@pytest.mark.parametrize("model", [Author, Penname, "testapp.Author"])
def test_a_model_that_is_not_registered_is_refused(model):
    with pytest.raises(TemplateSyntaxError, match=r"testapp\.\w+ is not registered, so nothing"):
        render("model", model=model)


def test_a_proxy_is_no_other_name_of_its_model(register):
    register(Author)
    with pytest.raises(TemplateSyntaxError, match=r"testapp\.Penname is not registered"):
        render("model", model=Penname)


def test_a_name_that_no_node_can_have_is_refused():
    with pytest.raises(TemplateSyntaxError, match=r"which XML 1\.0 cannot carry"):
        render("node", node="/\0")


@pytest.mark.parametrize("options", [{}, {"node": ()}])
def test_of_a_model_whose_nodes_depend_on_the_row_the_node_is_asked_for(register, options):
    register(Post, ByAuthor, **options)
    with pytest.raises(TemplateSyntaxError, match=r"ByAuthor\.get_nodes\(\) names for each row"):
        render("model", model=Post)
    assert render('"/author/7"') == 'data-pubsub-collection="/author/7"'


def test_of_a_model_whose_hook_chooses_among_named_nodes_it_is_known(register):
    register(Post, ByAuthor, node="/posts")
    assert render("model", model=Post) == 'data-pubsub-collection="/posts"'


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "50", ""])
def test_a_limit_that_is_no_number_of_rows_is_refused(register, limit):
    register(Author)
    with pytest.raises(TemplateSyntaxError, match="is no whole number from 1 on") as refused:
        render("model limit=limit", model=Author, limit=limit)
    assert f"limit={limit!r}" in str(refused.value)


def test_a_limit_above_what_the_node_keeps_is_refused(register, settings):
    register(Author, max_items=7)
    assert render("model limit=7", model=Author)
    with pytest.raises(TemplateSyntaxError, match="limit=8 is more than the 7 items that the node"):
        render("model limit=8", model=Author)
    register(Post, max_items="max")
    assert render("model limit=5000", model=Post)
    register(Ticket)
    settings.PUBSUB_NODE_DEFAULTS = {"max_items": 3}
    with pytest.raises(TemplateSyntaxError, match="limit=4 is more than the 3 items that the node"):
        render("model limit=4", model=Ticket)


@pytest.mark.parametrize("order", ["", "-", "--name", 7, ["name"]])
def test_an_order_that_names_no_field_is_refused(register, order):
    register(Author)
    with pytest.raises(TemplateSyntaxError, match="names no field: write 'pk'") as refused:
        render("model order=order", model=Author, order=order)
    assert f"order={order!r}" in str(refused.value)


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ({"fields": ["title"]}, "body"),
        ({"exclude": ["body"]}, "body"),
        ({}, "id"),
        ({}, "readers"),
        ({}, "author__name"),
        ({"format": "json", "exclude": ["id"]}, "id"),
    ],
)
def test_an_order_by_what_is_not_published_is_refused(register, options, order):
    register(Post, **options)
    said = rf"order='-{order}': items of testapp\.Post have no field '{order}'; .* pk, .*title"
    with pytest.raises(TemplateSyntaxError, match=said):
        render("model order=order", model=Post, order=f"-{order}")


@pytest.mark.parametrize(
    ("options", "order"),
    [
        ({"fields": ["title"]}, "pk"),
        ({}, "title"),
        ({"m2m": ["readers"]}, "readers"),
        ({"format": "json", "fields": ["title"]}, "id"),
        ({"format": "tests.blog.serializers.headline"}, "headline"),
    ],
)
def test_an_order_by_what_is_published_is_taken(register, options, order):
    register(Post, **options)
    assert render("model order=order", model=Post, order=order)


def test_what_a_hook_publishes_is_not_known_beforehand(register):
    class Headlines(Publication):
        format = "json"

        def get_payload(self, instance, event):
            return {"headline": instance.title.upper()}

    register(Post, Headlines)
    assert render("model order='headline'", model=Post)


def test_an_order_may_be_a_field_of_a_parent_or_of_any_model_on_the_node(register):
    register(Pizzeria, format="json")
    assert render("model order='place_ptr'", model=Pizzeria)
    assert render("model order='name'", model=Pizzeria)
    register([Author, Post], node="/both")
    assert render("'/both' order='title'")
    with pytest.raises(TemplateSyntaxError, match=r"testapp\.Author and testapp\.Post have no"):
        render("'/both' order='oven'")
