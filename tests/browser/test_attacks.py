"""The demo as attackers use it: what they post is text, and no script of theirs runs."""

import uuid
import xml.etree.ElementTree as ET

import pytest
from playwright.sync_api import expect

from pubsub import publish, retract
from tests.browser.conftest import NODE
from tests.browser.test_status_page import post, status

HOSTILE = {
    "script": "<script>hacked=1</script>",
    "handler": "<img src=x onerror=hacked=1>",
    "svg": "<svg/onload=hacked=1>",
    "end of the template": "</li></ol></template><script>hacked=1</script>",
    "end of the attribute": "\"' autofocus onfocus=hacked=1 x='\"",
    "Django's tags": "{% pubsub_client %}{{ request }}{# x #}",
    "entities": "&lt;b&gt;&#60;i&#62;&amp;",
    "XML": "]]></field></object><![CDATA[<b>",
    "address": 'javascript:hacked=1 https://x.example/?"onmouseover=hacked=1',
    "direction": "\u202egnirts\u202c <b>",
}


@pytest.fixture
def visitors(visit):
    """Two pages: who posts, and who sees; nothing of what is posted runs in either.

    It would not be the page's policy (CSP) that keeps it from running: that is switched off.
    """
    pages = visit(bypass_csp=True), visit(bypass_csp=True)
    yield pages
    for page in pages:
        assert page.evaluate("typeof hacked") == "undefined"


def test_html_in_a_status_and_in_a_nick_is_text_live_and_after_a_reload(visitors):
    poster, seer = visitors
    mark = uuid.uuid4().hex[:12]
    for number, text in enumerate(HOSTILE.values()):
        post(poster, f"{text} {mark} {number}", text[:50])
        expect(poster.locator("[name=message]")).to_have_value("")
    rows = status(seer, mark)
    for _ in ("live", "reloaded"):
        expect(rows).to_have_count(len(HOSTILE))
        for number, text in enumerate(HOSTILE.values()):
            row = rows.filter(has_text=f"{mark} {number}")
            assert row.locator(".message").text_content() == f"{text} {mark} {number}"
            assert row.locator(".nick").text_content() == text[:50]
        assert rows.locator(":is(script, img, svg, b, i, template)").count() == 0
        assert rows.locator(":is([onfocus], [onmouseover], [onerror])").count() == 0
        links = rows.locator("a").evaluate_all("all => all.map((a) => a.protocol)")
        assert set(links) == {"https:"}
        seer.reload()
        seer.locator("#connection[data-state=online]").wait_for()


def test_html_in_an_item_that_is_published_by_hand_is_text(visitors, publisher):
    """Whoever may publish: the page takes fields, and nothing else, and sets text."""
    _, seer = visitors
    mark = uuid.uuid4().hex
    rows = seer.locator("#statuses li")
    evil = "<b><script xmlns='http://www.w3.org/1999/xhtml'>hacked=1</script>"
    fields = {"nick": evil, "message": f"{evil} {mark}", "time": "'onclick='hacked=1"}
    xml = ET.Element("django-objects", version="1.0")
    row = ET.SubElement(xml, "object", model="demo.status", pk="<img src=x onerror=hacked=1>")
    for name, value in fields.items():
        ET.SubElement(row, "field", name=name, type="CharField").text = value
    inner = (
        "<b xmlns='http://www.w3.org/1999/xhtml' onclick='hacked=1'>bold<script>hacked=1</script>"
        "<img src='data:image/gif;base64,x' onerror='hacked=1' onload='hacked=1'/></b>"
    )
    ET.SubElement(row, "field", name="message", type="x").append(ET.fromstring(inner))
    items = {
        f'"><img src=x onerror=hacked=1>{mark}': xml,
        f"element {mark}": ET.fromstring(inner),
        mark: {"nick": evil, "message": f"{evil} json {mark}"},
    }
    for id, item in items.items():
        publish(NODE, item, item_id=id).result(10)
    expect(seer.locator("#statuses li", has_text=f"json {mark}")).to_have_count(1)
    assert rows.locator(":is(script, img, b)").count() == 0
    assert rows.locator("[onclick], [onerror]").count() == 0
    for id in items:
        retract(NODE, id).result(10)
    expect(seer.locator("#statuses li", has_text=mark)).to_have_count(0)


def test_no_script_of_an_item_runs_where_a_page_takes_its_elements_over(visitors, publisher):
    """They come from a document that no script runs in, as if a DOMParser had made them."""
    _, seer = visitors
    asked = []
    seer.on("request", lambda request: asked.append(request.url))
    seer.evaluate(
        "window.taken = 0; window.mine = new PubSubClient();"
        "mine.subscribe('evil/elements', { onSync() { window.synced = true; }, onItem({ entry }) {"
        " document.body.append(document.importNode(entry, true), entry); taken++; } })"
    )
    seer.wait_for_function("() => window.synced")
    html = "http://www.w3.org/1999/xhtml"
    evil = ET.Element(f"{{{html}}}div")
    ET.SubElement(evil, f"{{{html}}}script").text = "hacked=1"
    ET.SubElement(evil, f"{{{html}}}script", src="/hacked.js")
    publish("evil/elements", evil, item_id="1").result(20)
    seer.wait_for_function("() => taken > 0")
    publish("evil/elements", "the end", item_id="2").result(20)
    seer.wait_for_function("() => taken > 1")
    assert seer.locator("body entry script").count() == 4
    assert seer.evaluate("typeof hacked") == "undefined"
    assert [url for url in asked if "hacked" in url] == []


def test_an_item_that_holds_the_end_of_a_stream_ends_none(visitors, publisher):
    _, seer = visitors
    publish("evil/ends", "the beginning", item_id="0").result(20)
    seer.evaluate(
        "window.heard = []; window.mine = new PubSubClient();"
        "mine.addEventListener('state', ({ detail }) => heard.push(detail));"
        "mine.subscribe('evil/ends', { onSync() { heard.push('synced'); },"
        " onItem({ id }) { heard.push(id); } })"
    )
    seer.wait_for_function("() => heard.includes('online')")
    evil = ET.Element("evil")
    ET.SubElement(evil, "{http://etherx.jabber.org/streams}error").text = "x"
    ET.SubElement(evil, "{urn:ietf:params:xml:ns:xmpp-framing}close")
    for item_id, payload in {"1": evil, "2": "the end"}.items():
        publish("evil/ends", payload, item_id=item_id).result(20)
    seer.wait_for_function("() => heard.includes('2')")
    told = seer.evaluate("heard")
    assert told[told.index("online") :] == ["online", "1", "2"]
