"""``{% load pubsub %}``: the client and its configuration on a page, and lists that stay true."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django import template
from django.template.context import Context
from django.template.exceptions import TemplateSyntaxError
from django.templatetags.static import static
from django.urls import NoReverseMatch, reverse
from django.utils.html import escape, format_html, format_html_join, json_script
from django.utils.safestring import SafeString

from pubsub import nodes
from pubsub import pubsub as registry
from pubsub.conf import conf
from pubsub.context import page_began
from pubsub.identities import jid_of
from pubsub.lists import list_attributes, may_be_created
from pubsub.payloads import timestamp
from pubsub.publications import Publication

register = template.Library()


@register.simple_tag(takes_context=True)
def pubsub_client(context: Context) -> SafeString:
    """The script that defines PubSubClient, and what it has to know, as JSON.

    Nothing on the page runs inline, so ``script-src 'self'`` is enough for a content security
    policy.  Where the page has a nonce (``csp_nonce`` in the context, or on the request as
    django-csp puts it there) the script bears it.

    The nodes of registered models are created if need be, so that the page can subscribe to them
    before the first row is saved.
    """
    for node in registry.publications_by_node:
        nodes.ensure(node)
    return format_html(
        '{}\n<script src="{}"{}></script>',
        json_script(client_configuration(context.get("request")), "pubsub-config"),
        static("pubsub/pubsub.client.js"),
        _nonce_attribute(context),
    )


@register.simple_tag
def pubsub_collection(source: Any, order: Any = None, limit: Any = None) -> SafeString:
    """The attributes of an element whose rows are the items of a node.

    ::

        <ol {% pubsub_collection "blog.Post" order="-pk" limit=50 %}>

    ``client.bind()`` in the page keeps its rows true.  The node is created if need be, as
    ``{% pubsub_client %}`` does it.

    :param source, order, limit: see :func:`pubsub.lists.list_attributes`.
    :raises TemplateSyntaxError: for what would leave the list empty, or shorter than it says.
    """
    try:
        attributes = list_attributes(source, order, limit)
    except ValueError as error:
        raise TemplateSyntaxError(f"pubsub_collection: {error}") from error
    if may_be_created(attributes["collection"]):
        nodes.ensure(attributes["collection"])
    # Literals of a template count as safe, and a node's name may hold anything.
    written = ((name, escape(value)) for name, value in attributes.items())
    return format_html_join(" ", 'data-pubsub-{}="{}"', written)


def client_configuration(request: object = None) -> dict[str, Any]:
    """What the client in a page has to know; nothing of it is secret.

    ``user`` is for whom the page is: who has logged in meanwhile in the same browser gets nothing
    on it.

    ``since`` is the time when the request came: what is published from then on the page may not
    show yet.
    """
    known = registry.publications_by_node
    return {
        **_login(request),
        "service": conf.pubsub_host,
        "boshUrl": conf.bosh_url,
        "websocketUrl": conf.websocket_url,
        "guestDomain": conf.guest_domain,
        "userDomain": conf.user_domain,
        "workerUrl": _worker_url(),
        "since": timestamp(page_began(request)),
        "nodes": {node: _description(node, publications) for node, publications in known.items()},
    }


def _description(node: str, publications: Iterable[Publication]) -> dict[str, Any]:
    """How many items a node keeps, and whether it is a log: what it holds is no state, then."""
    is_log = all(publication.is_log for publication in publications)
    return {"max": nodes.max_items(node), **({"log": True} if is_log else {})}


def _login(request: Any) -> dict[str, str]:
    """Whose page it is, and where it asks how to log in; empty: it is a guest's."""
    user = getattr(request, "user", None)
    if not conf.jwt_keys or not getattr(user, "is_authenticated", False):
        return {}
    try:
        url = reverse("pubsub:credentials")
    except NoReverseMatch:  # pubsub.urls is nowhere included
        return {}
    try:
        return {"credentialsUrl": url, "user": jid_of(user)}
    except (TypeError, ValueError):  # he has no JID, and will be told so when he asks
        return {"credentialsUrl": url}


def _worker_url() -> str:
    """Where the script is by which tabs share a connection; empty: they do not.

    A page can do without it, so it does not fail where nobody has collected it.
    """
    try:
        return static("pubsub/pubsub.worker.js")
    except ValueError:  # a manifest without it
        return ""


def _nonce_attribute(context: Context) -> Any:
    nonce = context.get("csp_nonce") or getattr(context.get("request"), "csp_nonce", None)
    return format_html(' nonce="{}"', str(nonce)) if nonce else ""
