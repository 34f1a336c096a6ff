"""A visitor who tries to reach others, or the site itself, past the pubsub service."""

import secrets
from xml.sax.saxutils import quoteattr

import pytest

from tests.server.attacks.conftest import GUESTS, SERVICE, USERS, refusal

EVENT = (
    '<event xmlns="http://jabber.org/protocol/pubsub#event"><items node="/demo/Status">'
    '<item id="1"><entry xmlns="http://www.w3.org/2005/Atom">forged</entry></item></items></event>'
)
CLIENT = 'xmlns="jabber:client"'


@pytest.fixture
def victims(visit):
    """Two whose JIDs the attacker knows."""
    return [visit("guest"), visit("user")]


def answers(attacker, *stanzas):
    """What the attacker hears, up to the answer to a last request of his."""
    for stanza in stanzas:
        attacker.send(stanza)
    attacker.send(f'<iq {CLIENT} type="get" id="last"><ping xmlns="urn:xmpp:ping"/></iq>')
    heard = []
    while not heard or heard[-1].get("id") != "last":
        heard.append(attacker.next())
    return heard[:-1]


def has_heard_nothing(victim):
    """Whether nothing reached somebody until the answer to a request of his own."""
    return answers(victim) == []


def assert_refused(attacker, victims, log, name, types, contents=("",)):
    """Stanzas of all types to both victims are refused, and none arrives."""
    for victim in victims:
        for to in (victim.jid, victim.bare, f"{victim.bare}/other"):
            opening = f"<{name} {CLIENT} to={quoteattr(to)} id='1'"
            for type in types:
                stanzas = [f"{opening} type='{type}'>{content}</{name}>" for content in contents]
                heard = [refusal(one) for one in answers(attacker, *stanzas)]
                # To what is an answer itself there is none.
                is_answer = type in ("error", "result")
                assert heard == ([] if is_answer else ["forbidden"] * len(contents))
        assert has_heard_nothing(victim)
    log.says(
        "Refused", attacker.jid, name, victims[0].bare
    )  # and not each of them: that is bounded


def test_a_message_to_another_visitor_is_refused_and_never_arrives(attacker, victims, log):
    types = ("chat", "headline", "normal", "groupchat", "error")
    assert_refused(attacker, victims, log, "message", types, ["<body>hello</body>", EVENT])


def test_presence_to_another_visitor_is_refused_and_never_arrives(attacker, victims, log):
    types = ("available", "subscribe", "subscribed", "unsubscribe", "probe", "unavailable", "error")
    assert_refused(attacker, victims, log, "presence", types)


def test_a_request_to_another_visitor_is_refused_and_never_arrives(attacker, victims, log):
    types = ("get", "set", "result", "error")
    assert_refused(attacker, victims, log, "iq", types, ['<query xmlns="jabber:iq:version"/>'])


def test_a_message_to_the_site_is_refused(attacker, log):
    for to in ("django@localhost", "localhost", USERS, GUESTS, f"a@{SERVICE}"):
        message = f"<message {CLIENT} to={quoteattr(to)}><body>hello</body></message>"
        assert [refusal(one) for one in answers(attacker, message)] == ["forbidden"]
        log.says("Refused", attacker.jid, "message", to)


#: What is asked of other servers: contacts, accounts, storage, cards, commands.
NEVER = (
    ("set", '<query xmlns="jabber:iq:roster"><item jid="django@localhost"/></query>'),
    ("get", '<query xmlns="jabber:iq:register"/>'),
    ("set", '<query xmlns="jabber:iq:register"><remove/></query>'),
    ("set", '<query xmlns="jabber:iq:private"><x xmlns="urn:x"/></query>'),
    ("set", '<vCard xmlns="vcard-temp"><FN>Django</FN></vCard>'),
    ("set", '<block xmlns="urn:xmpp:blocking"><item jid="pubsub.localhost"/></block>'),
    ("set", '<enable xmlns="urn:xmpp:carbons:2"/>'),
    ("set", '<command xmlns="http://jabber.org/protocol/commands" node="announce"/>'),
    ("get", '<query xmlns="http://jabber.org/protocol/disco#items"/>'),
    ("get", '<query xmlns="jabber:iq:last"/>'),
)


def test_what_pages_never_ask_of_the_server_is_refused(attacker, log):
    own = attacker.bare.partition("@")[2]
    for type, content in NEVER:
        for to in (own, "localhost", attacker.bare):
            assert refusal(attacker.iq(type, content, to)) == "forbidden"
    log.says("Refused", attacker.jid, "iq (set)", "jabber:iq:roster", own)


@pytest.mark.parametrize("kind", ["guest", "user"])
def test_a_stanza_in_somebody_elses_name_ends_the_stream_of_who_sent_it(visit, victims, kind):
    for sender in (SERVICE, "django@localhost", victims[0].jid):
        attacker = visit(kind)
        to = quoteattr(victims[1].jid)
        attacker.send(f'<message {CLIENT} to={to} from="{sender}">{EVENT}</message>')
        assert "invalid-from" in attacker.rest()
    assert has_heard_nothing(victims[1])


def test_a_visitor_is_not_told_who_else_is_there(attacker, victims):
    for who in (attacker, *victims):
        heard = answers(who, f"<presence {CLIENT}/>")
        assert {one.get("from") for one in heard} <= {who.jid}
    assert has_heard_nothing(attacker)


def test_the_sites_own_answers_are_not_given_by_a_visitor(attacker, site):
    """The publisher knows who was asked, and nobody guesses the ids of his requests."""
    for id in ("1", "open", secrets.token_hex(6)):
        answers(
            attacker,
            f'<iq {CLIENT} to="django@localhost" type="result" id="{id}"/>',
            f'<iq {CLIENT} to="django@localhost/x" type="error" id="{id}"/>',
        )
    assert site.items(site.node)["first"] == "first"
