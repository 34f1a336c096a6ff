"""What a visitor, guest or user, tries to do to nodes that are not his: all of them."""

import secrets
from xml.sax.saxutils import quoteattr

import pytest

from pubsub.wire import stanzas
from tests.server.attacks.conftest import ADA, OWNER, SERVICE, USERS, refusal
from tests.visitors import IQ

FORM = (
    '<x xmlns="jabber:x:data" type="submit"><field var="FORM_TYPE" type="hidden">'
    "<value>http://jabber.org/protocol/pubsub#node_config</value></field>"
    '<field var="pubsub#access_model"><value>open</value></field>'
    '<field var="pubsub#publish_model"><value>open</value></field></x>'
)
SUBSCRIBED = (
    '<subscriptions node={}><subscription jid="{me}" subscription="subscribed"/></subscriptions>'
)


@pytest.fixture
def unborn():
    """The name of a node that nobody has created."""
    return f"/unborn/{secrets.token_hex(8)}"


def test_creating_a_node_is_refused(attacker, site, unborn, log):
    for content in (
        f"<create node={quoteattr(unborn)}/>",
        f"<create node={quoteattr(unborn)}/><configure>{FORM}</configure>",
        "<create/>",  # of a name that the service chooses
    ):
        assert refusal(attacker.pubsub("set", content)) == "forbidden"
    assert not site.has(unborn)
    log.says("Refused", attacker.jid, "create at", unborn)


def test_publishing_to_a_node_of_the_site_is_refused(attacker, site, log):
    for id in ("first", "another"):
        item = f'<item id="{id}"><entry xmlns="urn:x">forged</entry></item>'
        content = f"<publish node={quoteattr(site.node)}>{item}</publish>"
        assert refusal(attacker.pubsub("set", content)) == "forbidden"
    assert "forged" not in site.items(site.node).values()
    log.says("Refused", attacker.jid, "publish at", site.node)


def test_publishing_to_a_node_that_does_not_exist_yet_creates_none(attacker, site, unborn, log):
    item = '<item id="1"><entry xmlns="urn:x">forged</entry></item>'
    content = f"<publish node={quoteattr(unborn)}>{item}</publish>"
    for more in ("", f"<publish-options>{FORM}</publish-options>"):
        assert refusal(attacker.pubsub("set", content + more))
    assert not site.has(unborn)
    log.says("Refused", attacker.jid, "publish at", unborn)


def test_publishing_where_members_publish_is_refused_to_others(attacker, visit, site, log):
    node = f"/members/{secrets.token_hex(8)}"
    fields = {"access_model": "whitelist", "publish_model": "subscribers"}
    site.ask(stanzas.create(SERVICE, node, fields))
    site.ask(stanzas.set_affiliations(SERVICE, node, {ADA: "member"}))
    ada = visit("user", "77")
    ada.pubsub("set", f'<subscribe node="{node}" jid="{ada.bare}"/>')
    for who, condition in ((attacker, "forbidden"), (ada, "")):
        item = f'<item id="{who.bare}"><entry xmlns="urn:x">hello</entry></item>'
        answer = who.pubsub("set", f'<publish node="{node}">{item}</publish>')
        assert refusal(answer) == condition
    assert list(site.items(node)) == [ADA]
    log.says("Refused", attacker.jid, "publish at", node)
    site.ask(stanzas.delete(SERVICE, node))


def test_retracting_an_item_is_refused(attacker, site, log):
    content = f'<retract node={quoteattr(site.node)} notify="true"><item id="first"/></retract>'
    assert refusal(attacker.pubsub("set", content)) == "forbidden"
    assert site.items(site.node)["first"] == "first"
    log.says("Refused", attacker.jid, "retract at", site.node)


@pytest.mark.parametrize(
    ("type", "content"),
    [
        ("set", "<purge node={}/>"),
        ("set", "<delete node={}/>"),
        ("set", f"<configure node={{}}>{FORM}</configure>"),
        ("get", "<configure node={}/>"),
        ("get", "<affiliations node={}/>"),
        (
            "set",
            '<affiliations node={}><affiliation jid="{me}" affiliation="owner"/></affiliations>',
        ),
        ("get", "<subscriptions node={}/>"),
        ("set", SUBSCRIBED),
    ],
    ids=[
        *("purging", "deleting", "configuring", "reading the configuration"),
        *("reading affiliations", "setting affiliations"),
        *("reading subscriptions", "setting subscriptions"),
    ],
)
def test_what_only_an_owner_does_is_refused(attacker, site, log, type, content):
    for node in (site.node, site.private):
        asked = content.format(quoteattr(node), me=attacker.bare)
        assert refusal(attacker.pubsub(type, asked, OWNER)) == "forbidden"
        # In the other namespace some of it means something else, and nothing that is not his.
        answer = attacker.pubsub(type, asked)
        assert refusal(answer) or not list(answer.iter(f"{{{OWNER}}}affiliation"))
        assert site.items(node)["first"] == "first"
        assert site.ask(stanzas.configuration(SERVICE, node))["publish_model"] == "publishers"
        owners = {"django@localhost": "owner"}
        members = {ADA: "member"} if node == site.private else {}
        assert site.ask(stanzas.affiliations(SERVICE, node)) == owners | members
        assert not {jid for jid in site.subscribers(node) if jid.startswith(attacker.bare)}
    log.says("Refused", attacker.jid, OWNER)


def test_subscribing_somebody_else_is_refused(attacker, site, bystander, log):
    before = site.subscribers(site.node)
    for victim in (
        bystander.jid,
        bystander.jid.partition("/")[0],
        ADA,
        "django@localhost",
        f"{attacker.bare}/a resource that he has not",
        f"{attacker.jid}x",
        USERS,
        "",
        "@",
    ):
        content = f"<subscribe node={quoteattr(site.node)} jid={quoteattr(victim)}/>"
        assert refusal(attacker.pubsub("set", content)) in ("bad-request", "forbidden"), victim
    assert site.subscribers(site.node) == before
    log.says("Refused", attacker.jid, ADA)


def test_unsubscribing_somebody_else_is_refused(attacker, site, bystander):
    for victim in (bystander.jid, bystander.jid.partition("/")[0]):
        content = f"<unsubscribe node={quoteattr(site.node)} jid={quoteattr(victim)}/>"
        assert refusal(attacker.pubsub("set", content))
    assert bystander.jid in site.subscribers(site.node)


def test_changing_somebody_elses_options_is_refused(attacker, site, bystander):
    form = FORM.replace("node_config", "subscribe_options").replace("access_model", "deliver")
    victim = f"node={quoteattr(site.node)} jid={quoteattr(bystander.jid)}"
    for type, content in (
        ("set", f"<options {victim}>{form}</options>"),
        ("get", f"<options {victim}/>"),
    ):
        assert refusal(attacker.pubsub(type, content))


def test_subscribing_to_another_users_node_is_refused(attacker, site):
    for jid in (attacker.jid, attacker.bare):
        content = f"<subscribe node={quoteattr(site.private)} jid={quoteattr(jid)}/>"
        assert refusal(attacker.pubsub("set", content)) == "not-allowed"
    assert site.subscribers(site.private) == set()


def test_fetching_the_items_of_another_users_node_is_refused(attacker, site):
    for asked in ("", '<item id="first"/>'):
        content = f"<items node={quoteattr(site.private)}>{asked}</items>"
        assert refusal(attacker.pubsub("get", content)) == "not-allowed"


def test_another_users_node_tells_its_member_what_it_does_not_tell_others(visit, site):
    ada = visit("user", "77")
    content = f"<items node={quoteattr(site.private)}/>"
    assert "first" in "".join(ada.pubsub("get", content).itertext())


def test_the_service_does_not_list_its_nodes(attacker, site, log):
    for node in ("", f" node={quoteattr(site.private)}"):
        answer = attacker.iq(
            "get", f'<query xmlns="http://jabber.org/protocol/disco#items"{node}/>'
        )
        assert refusal(answer) == "forbidden"
    log.says("Refused", attacker.jid, "disco#items")


def test_asking_for_his_own_affiliations_tells_of_no_others(attacker, site):
    for what in ("affiliations", "subscriptions"):
        for node in ("", f" node={quoteattr(site.private)}"):
            answer = attacker.pubsub("get", f"<{what}{node}/>")
            assert answer.tag == IQ
            told = [
                child.attrib for child in answer.iter() if child.get("node") or child.get("jid")
            ]
            assert all("77@" not in str(one) and "django" not in str(one) for one in told)
