"""The serializer that docs/publications.rst shows; a test compares the two."""


def headline(instance):
    return {"headline": instance.title.upper()}
