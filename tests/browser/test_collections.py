"""Collections and the lists bound to them, in Chromium.

What the server does is in the first tests; the rest tells the lists themselves what a node would.
"""

import uuid

import pytest
from playwright.sync_api import Page, expect

from pubsub import nodes, publish, retract
from tests.waiting import until

HELPERS = """() => {
    // The element of a list, with a row as its template.
    window.make = (attributes = "", rows = "", template = `<li>
        <b data-pubsub-field="name"></b> <a data-pubsub-attr="href:url title:name">link</a>
        <details><summary>more</summary><input></details>
    </li>`) => {
        const holder = document.createElement("div");
        holder.innerHTML = `<ul id="list" data-pubsub-collection="/test" ${attributes}>
            ${rows}<template>${template}</template><li id="foot">foot</li></ul>`;
        document.body.prepend(holder);
        return holder.firstElementChild;
    };
    // A client that hears of its nodes what the test tells it.
    window.fed = () => {
        const client = new PubSubClient();
        client.disconnect();
        client.subscribe = (node, handlers) => {
            window.tell = handlers;
            return {unsubscribe() { said.push(`left ${node}`); }};
        };
        return client;
    };
    // (The demo's script has taken the names client, config, form, list and title.)
    window.item = (id, data, event = "created", published = "2026-01-01T00:00:00.000000Z") => {
        const entry = document.createElement("entry");
        entry.textContent = JSON.stringify(data);
        return {node: "/test", id: String(id), event, published, entry, data};
    };
    window.frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    window.names = () => [...document.querySelectorAll("#list [data-pubsub-id] b")]
        .map((name) => name.textContent);
    window.said = [];
}"""


@pytest.fixture
def page(visit) -> Page:
    """A page with the helpers above."""
    page = visit(online=False)
    page.evaluate(HELPERS)
    return page


@pytest.fixture
def node(publisher) -> str:
    """A node that no other test uses, and that exists."""
    name = f"/test/{uuid.uuid4().hex}"
    nodes.create(name).result(10)
    return name


def names(page: Page):
    return page.locator("#list [data-pubsub-id] b")


def test_a_collection_holds_what_the_node_holds_and_follows_it(page, node):
    for pk in ("1", "2"):
        publish(node, {"name": pk}, item_id=pk).result(10)
    page.evaluate(
        """async (node) => {
            window.mine = await new PubSubClient().collection(node).ready;
            mine.addEventListener("change", ({detail: {added, updated, removed}}) =>
                said.push([added, updated, removed].map((items) => items.map(({id}) => id))));
        }""",
        node,
    )
    publish(node, {"name": "new"}, item_id="3").result(10)
    publish(node, {"name": "changed"}, item_id="1").result(10)
    retract(node, "2").result(10)
    page.wait_for_function("() => said.length === 3")
    assert page.evaluate("said") == [[["3"], [], []], [[], ["1"], []], [[], [], ["2"]]]
    held = page.evaluate("[...mine.values()].map(({id, data}) => [id, data.name])")
    assert held == [["1", "changed"], ["3", "new"]]


def test_a_list_shows_the_items_of_its_node_in_its_order_and_length(page, node):
    for pk in (9, 10, 11):
        publish(node, {"name": f"n{pk}"}, item_id=str(pk)).result(10)
    page.evaluate(
        """(node) => {
            make(`data-pubsub-order="-pk" data-pubsub-limit="3"`).dataset.pubsubCollection = node;
            window.mine = new PubSubClient();
            mine.bind();
        }""",
        node,
    )
    expect(names(page)).to_have_text(["n11", "n10", "n9"])
    publish(node, {"name": "n12"}, item_id="12").result(10)
    expect(names(page)).to_have_text(["n12", "n11", "n10"])
    publish(node, {"name": "changed"}, item_id="11").result(10)
    retract(node, "12").result(10)
    expect(names(page)).to_have_text(["changed", "n10", "n9"])
    expect(page.locator("#list > :last-child")).to_have_id("foot")


def test_without_an_order_items_stand_as_they_were_created(page):
    page.evaluate(
        """() => {
            make();
            fed().bind();
            tell.onSync([item(2, {name: "b"}), item(1, {name: "a"})]);
            tell.onItem(item(3, {name: "c"}));
            tell.onItem(item(2, {name: "B"}));
        }"""
    )
    expect(names(page)).to_have_text(["B", "a", "c"])


def test_nothing_is_shown_or_taken_away_before_the_whole_is_known(page):
    shown = page.evaluate(
        """async () => {
            make("", `<li data-pubsub-id="1"><b>from Django</b></li>`);
            fed().bind();
            tell.onItem(item(2, {name: "early"}));
            await frame();
            return names();
        }"""
    )
    assert shown == ["from Django"]
    page.evaluate("tell.onSync([item(2, {name: 'early'})])")
    expect(names(page)).to_have_text(["early"])


def test_a_row_of_django_is_kept_and_says_what_its_item_says(page):
    """Whatever the time of its publication: a transaction may have lasted for hours."""
    page.evaluate(
        """() => {
            window.ours = make('data-pubsub-order="-pk"', `
                <li data-pubsub-id="2"><b data-pubsub-field="name">old</b><button></button></li>
                <li data-pubsub-id="1"><b data-pubsub-field="name">right</b></li>`);
            window.rows = [...ours.querySelectorAll("[data-pubsub-id]")];
            window.text = rows[1].querySelector("b").firstChild;
            ours.addEventListener("pubsub:row", ({target}) => said.push(target.dataset.pubsubId));
            fed().bind();
            tell.onSync([item(1, {name: "right"}), item(2, {name: "new"}), item(3, {name: "c"})]);
        }"""
    )
    expect(names(page)).to_have_text(["c", "new", "right"])
    assert page.evaluate("rows.every((row, index) => row === ours.children[index + 1])")
    assert page.evaluate("text.isConnected && Boolean(rows[0].querySelector('button'))")
    assert page.evaluate("said.splice(0)") == ["3", "2", "1"]
    page.evaluate("tell.onItem(item(2, {name: 'changed'}, 'updated'))")
    expect(names(page)).to_have_text(["c", "changed", "right"])
    assert page.evaluate("said") == ["2"]


def test_a_row_of_django_that_the_node_does_not_hold_goes(page):
    page.evaluate(
        """() => {
            const rows = [1, 2, 2].map((id) => `<li data-pubsub-id="${id}"><b>${id}</b></li>`);
            make("", rows.join(""));
            fed().bind();
            tell.onSync([item(2, {name: "2"})]);
        }"""
    )
    expect(names(page)).to_have_text(["2"])


def test_an_empty_node_takes_the_rows_of_django_away_and_says_why(page):
    with page.expect_console_message(lambda message: "publish_rows()" in message.text):
        page.evaluate(
            """() => {
                make("", `<li data-pubsub-id="1"><b>1</b></li>`);
                fed().bind();
                tell.onSync([]);
            }"""
        )
    expect(names(page)).to_have_count(0)


def test_a_row_keeps_its_element_and_what_a_visitor_does_in_it(page):
    page.evaluate(
        """async () => {
            window.ours = make('data-pubsub-order="name"');
            fed().bind();
            tell.onSync([1, 2, 3].map((id) => item(id, {name: `n${id}`})));
            await frame();
            window.row = ours.children[1];
            row.querySelector("details").open = true;
            row.querySelector("input").focus();
            row.querySelector("input").value = "typed";
            ours.addEventListener("focusout", () => said.push("focus lost"));
            tell.onItem(item(2, {name: "n4"})); // goes to the end
            tell.onItem(item(0, {name: "n0"}));
            tell.onRetract("1");
        }"""
    )
    expect(names(page)).to_have_text(["n0", "n3", "n4"])
    assert page.evaluate("row === ours.children[2] && row.querySelector('details').open")
    expect(page.locator("#list input:focus")).to_have_value("typed")
    assert page.evaluate("said") == []


def test_only_the_row_that_has_to_move_moves(page):
    moved = page.evaluate(
        """async () => {
            const list = make('data-pubsub-order="name"');
            fed().bind();
            tell.onSync([1, 2, 3, 4].map((id) => item(id, {name: `n${id}`})));
            await frame();
            new MutationObserver((records) => records.forEach(({addedNodes}) =>
                addedNodes.forEach((row) => said.push(row.dataset.pubsubId))
            )).observe(list, {childList: true});
            tell.onItem(item(1, {name: "n5"}));
            await frame();
            return said;
        }"""
    )
    assert moved == ["1"]


def test_of_a_row_only_what_has_changed_is_written(page):
    """The page may have put something better in the place of a text."""
    page.evaluate(
        """async () => {
            make("", "", `<li><b data-pubsub-field="name"></b><i data-pubsub-field="at"></i></li>`)
                .addEventListener("pubsub:row", ({target, detail: {item: {data}}}) => {
                    said.push(`${data.name} ${target.querySelector("i").textContent}`);
                    target.querySelector("i").textContent = "today";
                });
            fed().bind();
            tell.onSync([item(1, {name: "a", at: "2026-01-01"})]);
            await frame();
            tell.onItem(item(1, {name: "b", at: "2026-01-01"}));
        }"""
    )
    expect(names(page)).to_have_text(["b"])
    assert page.evaluate("said") == ["a 2026-01-01", "b today"]


def test_values_are_text_and_attributes_that_can_do_no_harm(page):
    page.evaluate(
        """() => {
            const wrong = "onclick:name style:name srcdoc:name =:name";
            make("", "", `<li><b data-pubsub-field="name"></b>
                <a data-pubsub-attr="href:url title:name ${wrong}">link</a>
                <input data-pubsub-attr="checked:done aria-busy:done value:missing" value="gone">
                <script data-pubsub-field="code"></script></li>`);
            fed().bind();
            const name = "<img src=x onerror=said.push(1)>";
            tell.onSync([
                item(1, {name, url: "javascript:said.push(1)", done: true, code: "said.push(1)"}),
                item(2, {name, url: "java\\nscript:said.push(1)", done: false}),
                item(3, {name, url: "/fine?a=1", done: null}),
            ]);
        }"""
    )
    hostile = "<img src=x onerror=said.push(1)>"
    expect(names(page)).to_have_text([hostile] * 3)
    links = page.locator("#list a")
    assert [link.get_attribute("href") for link in links.all()] == [None, None, "/fine?a=1"]
    attributes = "(links) => links.map((link) => link.getAttributeNames().sort().join(' '))"
    assert links.evaluate_all(attributes)[2] == "data-pubsub-attr href title"
    boxes = "(all) => all.map((box) => [box.checked, box.getAttribute('aria-busy'), box.value])"
    assert page.locator("#list input").evaluate_all(boxes) == [
        [True, "true", ""],
        [False, "false", ""],
        [False, None, ""],
    ]
    assert page.locator("#list img").count() == 0
    assert page.evaluate("said") == []
    refused = sorted(error.partition('"')[2].partition('"')[0] for error in page.errors)
    assert page.locator("#list script").all_text_contents() == [""] * 3
    assert refused == ["=:name", "code", "href:url", "onclick:name", "srcdoc:name", "style:name"]
    page.errors.clear()


def test_a_list_says_why_it_is_told_nothing(page):
    page.evaluate(
        """() => {
            make("", "<li data-pubsub-id='1'><b data-pubsub-field='name'>Django's</b></li>");
            fed().bind();
            document.addEventListener("pubsub:error", ({target, detail: {error}}) =>
                said.push(`${target.id} ${error.message}`));
            tell.onError(new Error("The site does not let this user read /n"));
        }"""
    )
    expect(names(page)).to_have_text(["Django's"])
    assert page.evaluate("said") == ["list The site does not let this user read /n"]


def test_items_without_fields_have_no_row_unless_the_page_fills_it(page):
    page.evaluate(
        """() => {
            make();
            fed().bind();
            tell.onSync([item(1, "text"), item(2, {name: "b"}), item(3, undefined)]);
            make("", "", "<li><b></b></li>").addEventListener("pubsub:row", ({target, detail}) => {
                target.firstChild.textContent = detail.item.data;
            });
            fed().bind();
            tell.onSync([item(1, "text")]);
        }"""
    )
    expect(names(page)).to_have_text(["text", "b"])


def test_a_list_may_stand_in_the_row_of_another(page):
    page.evaluate(
        """async () => {
            make("", "", `<li><b data-pubsub-field="name"></b><i data-pubsub-collection="/inner">
                <template><u data-pubsub-field="name"></u></template></i></li>`);
            fed().bind();
            const outer = tell;
            outer.onSync([item(1, {name: "a"})]);
            await frame();
            fed().bind();
            tell.onSync([item(1, {name: "inner"})]);
            await frame();
            outer.onItem(item(1, {name: "b"}));
        }"""
    )
    expect(names(page)).to_have_text(["b"])
    expect(page.locator("#list u")).to_have_text("inner")


def test_what_could_never_be_a_list_is_refused_before_any_is_bound(page):
    refusals = page.evaluate(
        """() => [
            ["", "", ""],
            ["", "", "<li></li><li></li>"],
            ['data-pubsub-order="-"'],
            ['data-pubsub-limit="0"'],
            ['data-pubsub-limit="many"'],
        ].map((wrong) => {
            const right = make();
            const list = make(...wrong);
            try {
                fed().bind();
            } catch (error) {
                right.remove();
                list.remove();
                return [error.message, window.tell];
            }
        })"""
    )
    assert len(refusals) == 5
    for message, told in refusals:
        assert '<ul id="list"' in message
        assert "<template> with one element" in message
        assert told is None


def test_a_list_is_bound_once_and_can_be_let_go(page):
    page.evaluate(
        """async () => {
            window.ours = make();
            window.mine = fed();
            const undo = mine.bind(ours);
            const first = tell;
            said.push(mine.bind(ours) === undo, tell === first);
            tell.onSync([item(1, {name: "a"})]);
            await frame();
            tell.onItem(item(2, {name: "too late"}));
            undo();
            await frame();
            said.push(...names());
            mine.bind();
            said.push(tell === first);
            tell.onSync([item(3, {name: "c"})]);
        }"""
    )
    expect(names(page)).to_have_text(["c"])
    assert page.evaluate("said") == [True, True, "left /test", "a", False]


def test_an_element_that_the_page_forgets_is_forgotten(page):
    page.evaluate(
        """async () => {
            const list = make();
            fed().bind();
            tell.onSync([item(1, {name: "a"})]);
            await frame();
            window.watched = new WeakRef(list);
            list.parentNode.remove();
        }"""
    )
    session = page.context.new_cdp_session(page)

    def forgotten() -> bool:
        session.send("HeapProfiler.collectGarbage")
        return page.evaluate("!watched.deref()")

    until(forgotten, "the element is forgotten")
    page.evaluate("tell.onItem(item(2, {name: 'b'}))")
    page.wait_for_function("() => said.length")
    assert page.evaluate("said") == ["left /test"]


def test_a_tab_in_the_background_which_has_no_frames_is_kept_true(page):
    page.evaluate(
        """() => {
            window.requestAnimationFrame = () => 0;
            make();
            fed().bind();
            tell.onSync([item(1, {name: "a"})]);
        }"""
    )
    expect(names(page)).to_have_text(["a"])
    page.evaluate("tell.onItem(item(2, {name: 'b'}))")
    expect(names(page)).to_have_text(["a", "b"])


def test_a_burst_is_drawn_at_once(page):
    """10,000 new items, 10,000 changes and 10,000 retractions, each of them in one frame."""
    draws = page.evaluate(
        """async () => {
            const list = make('data-pubsub-order="-rank" data-pubsub-limit="100"');
            fed().bind();
            const tellAll = (text) => Array.from(Array(10_000).keys(), (id) =>
                tell.onItem(item(id, {name: `${text}${id}`, rank: (id * 7919) % 10_007})));
            tell.onSync([]);
            await frame();
            let draws = 0;
            new MutationObserver(() => draws++).observe(list, {childList: true, subtree: true});
            tellAll("a");
            await frame();
            tellAll("b");
            await frame();
            Array.from(Array(9_999).keys(), (id) => tell.onRetract(String(id)));
            await frame();
            return draws;
        }"""
    )
    assert draws == 3
    expect(names(page)).to_have_text(["b9999"])
