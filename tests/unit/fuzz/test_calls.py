"""Whatever the public calls are given, they do it, or refuse it by the errors that they tell of."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pubsub import Publication, nodes, publish, pubsub, retract
from pubsub.backends import get_backend
from pubsub.backends.xmpp import XMPPBackend
from pubsub.checks.publications import check
from pubsub.exceptions import InvalidItem, PubSubError, RegistrationError
from pubsub.futures import resolved
from tests.testapp.models import Author
from tests.unit.fuzz import values

pytestmark = pytest.mark.django_db(transaction=True)

SOME = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
OPTIONS = [name for name in vars(Publication) if name.islower() and not name.startswith("_")]
CALLS = {
    "create": lambda node, value: nodes.create(node, **value),
    "configure": lambda node, value: nodes.configure(node, **value),
    "set_affiliations": nodes.set_affiliations,
    "delete": lambda node, value: nodes.delete(node),
    "items": lambda node, value: nodes.items(node),
    "subscriptions": lambda node, value: nodes.subscriptions(node),
    "affiliations": lambda node, value: nodes.affiliations(node),
}


class Recording(XMPPBackend):
    """Keeps what would be sent."""

    def __init__(self):
        super().__init__()
        self.requests = []

    def _request(self, node, request):
        self.requests.append(request)
        return resolved(None)


@pytest.fixture
def requests(settings):
    """The stanzas that calls made, as a server reads them."""
    settings.PUBSUB_BACKEND = f"{__name__}.Recording"
    settings.XMPP_JID = "django@localhost"
    return get_backend().requests


@SOME
@given(node=values.anything | values.huge, item=values.anything, item_id=values.ids)
def test_publishing_anything_anywhere_resolves_or_is_refused_at_the_call(sent, node, item, item_id):
    sent.clear()
    try:
        future = publish(node, item, item_id=item_id)
    except (InvalidItem, TypeError):
        assert sent == []
        return
    assert future.result(0)
    assert [one.node for one in sent] == [node]
    ET.fromstring(sent[0].payload)


@SOME
@given(node=values.anything | values.huge, item_id=values.ids)
def test_retracting_anything_anywhere_resolves_or_is_refused_at_the_call(sent, node, item_id):
    sent.clear()
    try:
        assert retract(node, item_id).result(0) == str(item_id)
    except (InvalidItem, TypeError):
        assert sent == []
        return
    assert [(one.node, one.is_retraction) for one in sent] == [(node, True)]


@SOME
@given(
    call=st.sampled_from(sorted(CALLS)),
    node=values.text | st.just("/n"),
    value=st.dictionaries(values.text, values.text, max_size=3),
)
@example(call="set_affiliations", node='/n"><x/>', value={"a@b' x='y": '"/><affiliation jid="c"'})
def test_what_is_asked_of_a_node_is_one_stanza_or_refused_at_the_call(requests, call, node, value):
    requests.clear()
    try:
        CALLS[call](node, value)
    except (InvalidItem, TypeError):
        assert requests == []
        return
    (request,) = requests
    iq = ET.fromstring(request.to_xml("id1"))
    assert len(iq) == 1
    about = iq[0][0]
    assert about.get("node") == node
    if call == "set_affiliations":
        assert {one.get("jid"): one.get("affiliation") for one in about} == value


@SOME
@given(
    options=st.dictionaries(
        st.sampled_from(OPTIONS) | values.names,
        values.anything | st.lists(st.sampled_from(["name", "id", "pk", "created"]), max_size=2),
        max_size=2,
    ),
    name=values.text,
)
def test_options_of_any_kind_are_refused_or_checked_and_never_fail_a_save(sent, options, name):
    sent.clear()
    try:
        pubsub.register(Author, **options)
    except RegistrationError:
        assert not pubsub.is_registered(Author)
        return
    try:
        list(check(pubsub.publication_for(Author)))
        Author.objects.create(name=name.replace("\0", "").encode(errors="replace").decode())
    finally:
        pubsub.unregister(Author)


@SOME
@given(models=values.anything, options=values.anything)
def test_what_is_no_model_is_refused(models, options):
    with pytest.raises(PubSubError):
        pubsub.register(models or [models])
    with pytest.raises((PubSubError, TypeError)):
        pubsub.publish_rows(models or [models], "created").result(0)
    with pytest.raises(RegistrationError):
        pubsub.register(Author, options or [options])
