"""docs/: every example does what the page says that it does."""

import doctest
import inspect
import re
from functools import cached_property
from pathlib import Path

import pytest

from pubsub import Publication, pubsub
from pubsub.checks import check_publications
from pubsub.signals import publish_failed
from tests.blog import models

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "publications.rst"
SECTIONS = re.split(r"\n\n\n(?=.+\n=+\n)", PAGE.read_text(encoding="utf-8"))


def title(section):
    return section.partition("\n")[0].replace("`", "")


@pytest.mark.django_db(transaction=True, reset_sequences=True)
@pytest.mark.parametrize("section", SECTIONS[1:], ids=title)
def test_the_examples_of_a_section_are_true(section, published):
    def register(model, *args, **options):
        """The page registers anew what it has registered above."""
        if pubsub.is_registered(model):
            pubsub.unregister(model)
        pubsub.register(model, *args, **options)

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
    receivers = list(publish_failed.receivers)
    try:
        doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    finally:
        publish_failed.receivers = receivers
        publish_failed.sender_receivers_cache.clear()
        for publication in pubsub.publications:
            if publication.model.__module__ == models.__name__:
                pubsub.unregister(publication.model)
    assert "".join(said) == ""


def test_the_page_shows_the_models_that_its_examples_use():
    shown = re.search(r"    # blog/models.py\n(.*?)\nand ", PAGE.read_text(), re.DOTALL)[1]
    source = inspect.getsource(models).partition('"""\n\n')[2]
    assert inspect.cleandoc(shown) == source.strip()


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
