"""docs/: every example does what the page says that it does."""

import doctest
import inspect
import re
import sys
import textwrap
from functools import cached_property
from pathlib import Path

import pytest
from django.contrib.auth.models import AnonymousUser
from django.template import Context, Template

import pubsub as pubsub_package
from pubsub import Publication, pubsub, rules
from pubsub.checks import check_publications
from pubsub.signals import item_published, publish_failed
from pubsub.templatetags.pubsub import client_configuration
from tests import blog
from tests.blog import models, serializers

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "publications.rst"
BROWSER_PAGE = ROOT / "docs" / "browser.rst"
SECTIONS = re.split(r"\n\n\n(?=.+\n=+\n)", PAGE.read_text(encoding="utf-8"))
TEMPLATES = [
    inspect.cleandoc(block)
    for page in (ROOT / "README.rst", BROWSER_PAGE)
    for block in re.findall(
        r"\.\. code-block:: html\+django\n\n((?:    .*\n|\n)+)", page.read_text(encoding="utf-8")
    )
]


def title(section):
    return section.partition("\n")[0].replace("`", "")


@pytest.mark.django_db(transaction=True, reset_sequences=True)
@pytest.mark.parametrize("section", SECTIONS[1:], ids=title)
def test_the_examples_of_a_section_are_true(section, published, monkeypatch):
    def register(model, *args, **options):
        """The page registers anew what it has registered above."""
        if pubsub.is_registered(model):
            pubsub.unregister(model)
        pubsub.register(model, *args, **options)

    monkeypatch.setitem(sys.modules, "blog", blog)
    monkeypatch.setitem(sys.modules, "blog.serializers", serializers)
    for signal in (item_published, publish_failed):
        monkeypatch.setattr(signal, "receivers", list(signal.receivers))
    names = {
        "Publication": Publication,
        "pubsub": pubsub,
        "published": published,
        "register": register,
        "blog": models.Blog.objects.create(name="News"),
        "Blog": models.Blog,
        "Post": models.Post,
        "Tag": models.Tag,
    }
    test = doctest.DocTestParser().get_doctest(section, names, title(section), str(PAGE), 0)
    said = []
    try:
        doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    finally:
        for publication in pubsub.publications:
            if publication.model.__module__ == models.__name__:
                pubsub.unregister(publication.model)
    assert "".join(said) == ""


@pytest.mark.parametrize("module", [models, serializers])
def test_the_page_shows_what_its_examples_use(module):
    name = module.__name__.rpartition(".")[2]
    shown = re.search(rf"    # blog/{name}.py\n(.*?)\n\S", PAGE.read_text(), re.DOTALL)[1]
    source = inspect.getsource(module).partition('"""\n\n')[2]
    assert textwrap.dedent(shown).strip() == source.strip()


def test_every_option_and_hook_is_described():
    derived = (property, cached_property)
    public = [
        name
        for name, value in vars(Publication).items()
        if not (name.startswith("_") or isinstance(value, derived))
    ]
    text = PAGE.read_text()
    assert [name for name in public if f"``{name}" not in text] == []


@pytest.mark.django_db(transaction=True, reset_sequences=True)
def test_the_publication_in_the_readme_publishes(published, register):
    readme = (ROOT / "README.rst").read_text()
    block = re.search(r"\n( +@pubsub\.register\(Post\)\n.*?)\n\n    `docs", readme, re.DOTALL)[1]
    names = {"pubsub": pubsub, "Publication": Publication, "Post": models.Post}
    exec(inspect.cleandoc(block), names)
    try:
        blog = models.Blog.objects.create(name="News")
        models.Post.objects.create(blog=blog, slug="hello", title="Hello")
        data = {"id": 1, "title": "Hello", "body": ""}
        assert check_publications() == []
        for node in ("/blog/Post", f"/blog/Blog/{blog.pk}/posts"):
            published.assertPublished(node, count=1, payload=data)
    finally:
        pubsub.unregister(models.Post)


@pytest.mark.django_db
@pytest.mark.parametrize("page", ["README.rst", "docs/access.rst"])
def test_the_rule_that_is_shown_lets_in_whom_it_says(page, django_user_model):
    blocks = re.findall(r"\n\n((?:    .*\n|\n)+)", (ROOT / page).read_text(encoding="utf-8"))
    (block,) = [inspect.cleandoc(b) for b in blocks if "@pubsub.authorize(" in b]
    names = {"Draft": models.Post, "Post": models.Post}
    exec(re.sub("^from .*", "", block, flags=re.MULTILINE) + "\n", names)
    try:
        publication = pubsub.publication_for(models.Post)
        node = publication.get_nodes(models.Post(blog_id=5), "created")
        chief = django_user_model.objects.create_superuser("chief")
        clerk = django_user_model.objects.create_user("clerk")
        may = [pubsub_package.may_read(user, node) for user in (chief, clerk, AnonymousUser())]
        assert may == [True, False, False]
        assert check_publications() == []
    finally:
        rules.withdraw(rules.rule_of(node).function)
        pubsub.unregister(models.Post)


@pytest.mark.parametrize("template", TEMPLATES, ids=range(len(TEMPLATES)))
def test_the_templates_that_are_shown_can_be_rendered(template, register, settings):
    settings.PUBSUB_BACKEND = "pubsub.backends.dummy.DummyBackend"
    register(models.Post)
    posts = [models.Post(pk=7, title="Hello")]
    html = Template(template).render(Context({"posts": posts}))
    if "pubsub_collection" in template:
        assert '<ol data-pubsub-collection="/blog/Post" data-pubsub-order="-pk"' in html
        assert '<li data-pubsub-id="7"><b data-pubsub-field="title">Hello</b></li>' in html


def test_everything_that_the_page_tells_the_client_is_described():
    text = BROWSER_PAGE.read_text(encoding="utf-8")
    assert [name for name in client_configuration() if f"``{name}``" not in text] == []
