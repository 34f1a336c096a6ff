"""The outbox in Django's admin, seen through its pages."""

import re

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from pubsub.items import now
from pubsub.models import OutboxItem, State

pytestmark = pytest.mark.django_db

LIST = "/admin/pubsub/outboxitem/"


@pytest.fixture
def staff():
    """A function that logs somebody in who has these permissions, and no others."""

    def log_in(*permissions):
        user = User.objects.create(username="ann", is_staff=True)
        codenames = [f"{permission}_outboxitem" for permission in permissions]
        user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client = Client()
        client.force_login(user)
        return client

    return log_in


def row(state=State.REFUSED, **fields):
    fixed = {"lane": 1, "node": "/blog/Post", "item_id": "42", "event": "updated", "at": now()}
    return OutboxItem.objects.create(
        **{**fixed, "payload": "<entry/>", "tries": 3, "error": "no", "state": state, **fields}
    )


def listed(client, query=""):
    """The ids of the rows on the list, in order."""
    page = client.get(f"{LIST}{query}")
    assert page.status_code == 200
    return [found.id for found in page.context["cl"].result_list]


def act(client, action, *rows, everywhere=False, query=""):
    """Choose rows and an action; returns what the next page says."""
    data = {"action": action, "_selected_action": [str(row.id) for row in rows]}
    if everywhere:
        data["select_across"] = "1"
    page = client.post(f"{LIST}{query}", data, follow=True)
    assert page.status_code == 200
    return [str(message) for message in page.context["messages"]]


def detail(client, row):
    return client.get(reverse("admin:pubsub_outboxitem_change", args=[row.id]))


def test_the_list_shows_what_became_of_each_row(staff):
    shown = row(error=f"<b>{'very ' * 50}bad\n")
    text = staff("view").get(LIST).content.decode()
    assert f">{shown.id}</a>" in text
    assert all(word in text for word in ["/blog/Post", "42", "updated", "set aside"])
    assert "&lt;b&gt;very very" in text
    assert "…" in text
    assert "bad" not in text


def test_the_list_opens_with_the_newest_trouble(staff):
    rows = {state: row(state).id for state in State}
    newest = row().id
    assert listed(staff("view")) == [
        newest,
        *(rows[s] for s in (State.REFUSED, State.LATER, State.WAITING, State.UNREAD)),
    ]


def test_the_list_can_be_narrowed_to_a_state(staff):
    rows = {state: row(state).id for state in State}
    client = staff("view")
    for state in State:
        assert listed(client, f"?state={state.value}") == [rows[state]]
    assert len(listed(client, "?state=all")) == len(State)
    assert len(listed(client, "?state=nonsense")) == len(State) - 1
    text = client.get(LIST).content.decode()
    assert all(label in text for label in ["not acknowledged", ">All<", *State.labels])


def test_nodes_and_ids_are_searched(staff):
    by_node, by_id = row(node="/seat/7").id, row(item_id="seat-7").id
    row()
    client = staff("view")
    assert listed(client, "?q=seat") == [by_id, by_node]
    assert listed(client, "?q=/seat/") == [by_node]


def test_the_list_asks_for_nothing_large_and_counts_once(staff, django_assert_max_num_queries):
    row(payload="large")
    client = staff("view")
    with django_assert_max_num_queries(9) as queries:
        listed(client, "?q=42")
    asked = [q["sql"] for q in queries.captured_queries if "pubsub_outboxitem" in q["sql"]]
    assert len(asked) == 2
    assert sum("COUNT" in sql for sql in asked) == 1
    assert not any(column in sql for sql in asked for column in ("payload", "change", "config"))


def test_a_row_is_shown_whole_and_escaped(staff):
    shown = row(
        payload="<entry><script>alert(1)</script></entry>",
        error="<i>refused</i>",
        change={"name": "<b>"},
        configuration={"max_items": 7},
    )
    text = detail(staff("view"), shown).content.decode()
    assert "&lt;entry&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;/entry&gt;" in text
    assert "&lt;i&gt;refused&lt;/i&gt;" in text
    assert "max_items" in text
    assert not re.search(r"<script>alert|<i>refused|<b>&quot;", text)


def test_a_long_payload_is_shortened(staff):
    text = detail(staff("view"), row(payload="x" * 250_000)).content.decode()
    assert "(248,000 more characters)" in text
    assert len(text) < 50_000


def test_nothing_can_be_added_changed_or_deleted_by_a_form(staff):
    shown = row()
    client = staff("add", "view", "change", "delete")
    assert client.get(f"{LIST}add/").status_code == 403
    assert client.get(f"{LIST}{shown.id}/delete/").status_code == 403
    assert client.post(f"{LIST}{shown.id}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(f"{LIST}{shown.id}/change/", {"state": "3"}).status_code == 403
    text = detail(client, shown).content.decode()
    assert not re.search(r'name="(state|node|payload|_save)"', text)
    act(client, "delete_selected", shown)
    assert OutboxItem.objects.get() == shown


def test_what_has_failed_is_tried_again(staff):
    rows = [row(State.REFUSED), row(State.LATER)]
    assert act(staff("change"), "retry", *rows) == ["2 to be tried again."]
    assert {(r.state, r.tries, r.error) for r in OutboxItem.objects.all()} == {(State.LATER, 0, "")}


def test_what_has_not_failed_is_passed_over_and_said(staff):
    rows = [row(state) for state in State]
    (message,) = act(staff("change"), "retry", *rows, query="?state=all")
    why = "only what is set aside or to be sent later is tried again"
    assert message == f"2 to be tried again, 3 passed over: {why}."


def test_what_is_not_acknowledged_is_discarded(staff):
    rows = [row(state) for state in State]
    messages = act(staff("view", "delete"), "discard", *rows, query="?state=all")
    assert messages == ["4 discarded, 1 passed over: what is acknowledged stays."]
    assert [kept.state for kept in OutboxItem.objects.all()] == [State.SENT]


def test_all_that_a_search_finds_can_be_chosen_at_once(staff):
    rows = [row(node="/found") for _ in range(3)]
    other = row()
    client = staff("view", "delete", "change")
    assert act(client, "discard", rows[0], everywhere=True, query="?q=found") == ["3 discarded."]
    assert OutboxItem.objects.get() == other


@pytest.mark.parametrize(
    ("permissions", "offered"),
    [
        (["view"], []),
        (["view", "change"], ["retry"]),
        (["view", "delete"], ["discard"]),
        (["view", "add", "change", "delete"], ["retry", "discard"]),
    ],
)
def test_each_action_needs_its_permission(staff, permissions, offered):
    client = staff(*permissions)
    chosen = row()
    text = client.get(LIST).content.decode()
    assert re.findall(r'<option value="(\w+)"', text) == offered
    for action in {"retry", "discard"} - set(offered):
        act(client, action, chosen)
        assert OutboxItem.objects.get().state == State.REFUSED


def test_without_a_permission_nothing_is_seen(staff):
    row()
    client = staff()
    assert client.get(LIST).status_code == 403
    assert detail(client, OutboxItem.objects.get()).status_code == 403
