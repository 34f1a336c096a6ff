"""pubsub/admissions.py, rechecking.py, sessions.py and accounts.py against a real ejabberd."""

import io
import sqlite3
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import closing
from functools import partial
from itertools import count

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import connections, transaction
from django.test import Client
from django.urls import include, path

from pubsub import authorize, end_sessions, errands, nodes, publish, recheck, revoke, rules
from pubsub.admissions import admit
from pubsub.backends import get_backend
from pubsub.conf import conf
from pubsub.credentials import make_credentials
from pubsub.exceptions import AuthenticationError, RequestRefused, StreamError
from pubsub.identities import jid_of
from pubsub.models import Admission
from pubsub.publications import PUBLISH_MODELS
from pubsub.rechecking import recheck_node
from pubsub.wire.bosh import open_bosh
from tests.proxy import Proxy
from tests.visitors import subscribe
from tests.waiting import until

pytestmark = [pytest.mark.usefixtures("xmpp_settings", "database"), pytest.mark.urls(__name__)]

urlpatterns = [path("pubsub/", include("pubsub.urls"))]

PING = '<iq xmlns="jabber:client" type="get" id="p"><ping xmlns="urn:xmpp:ping"/></iq>'
PERMISSION = "auth.view_user"


@pytest.fixture
def database(db, tmp_path):
    """A database in a file: one in memory cannot be written and read by several threads."""
    memory = connections["default"]
    with closing(sqlite3.connect(tmp_path / "db")) as copy:
        memory.connection.backup(copy)
    settings = connections.settings["default"]
    before = dict(settings)
    settings.update(NAME=tmp_path / "db", OPTIONS={"timeout": 20})
    connections["default"] = connections.create_connection("default")
    finish_errands()  # whose threads may have a connection to what was there before
    yield
    finish_errands()
    connections["default"].close()
    settings.update(before)
    connections["default"] = memory


def finish_errands():
    """Wait until all that was begun is done: each thread comes to a barrier."""
    for is_urgent in (True, False):
        meet = partial(threading.Barrier(errands.THREADS).wait, 20)
        options = {"what": "meet", "remedy": "", "is_urgent": is_urgent}
        for each in [errands.run(meet, **options) for _ in range(errands.THREADS)]:
            each.result(20)


#: For users: the server goes on when a test has ended, and refuses the tokens of whom it had to.
KEYS = count(1000, 10)


class Page:
    """A page of a user who has logged in.

    :param password: a token; a new one if not given.
    """

    def __init__(self, user, password=""):
        name, _, domain = jid_of(user).partition("@")
        password = password or make_credentials(user).password
        self.session = open_bosh(conf.prebind_url, domain, name, password)
        self.jid = self.session.jid

    def subscribe(self, node, jid=""):
        """The condition with which the server refuses; empty: it does not."""
        return self.refusal(subscribe(conf.pubsub_host, node, jid or self.jid))

    def publish(self, node):
        """As :meth:`subscribe`."""
        return self.refusal(
            f'<iq xmlns="jabber:client" type="set" id="i" to="{conf.pubsub_host}">'
            f'<pubsub xmlns="http://jabber.org/protocol/pubsub"><publish node="{node}">'
            '<item id="own"><entry xmlns="http://www.w3.org/2005/Atom"/></item></publish></pubsub>'
            "</iq>"
        )

    def refusal(self, request):
        """The conditions of an answer; empty: it is no error."""
        error = self.session.request(request).getTag("error")
        return "" if error is None else " ".join(c.getName() for c in error.getChildren())

    def events(self):
        """The ids of the items that have come so far: what was sent before the ping is here."""
        self.session.request(PING)
        stanzas = [*self.session.stanzas]
        self.session.stanzas.clear()
        return [
            item.getAttr("id")
            for stanza in stanzas
            if (event := stanza.getTag("event")) is not None and event.getTag("items")
            for item in event.getTag("items").getTags("item")
        ]

    def is_gone(self):
        try:
            self.session.request(PING)
        except StreamError:
            return True
        return False


@pytest.fixture
def ada():
    user = User.objects.create_user("ada", pk=next(KEYS))
    finish_errands()  # which ask rules about her
    return user


@pytest.fixture
def open_page():
    """Opens pages, which are closed after the test."""
    pages = []

    def open_page(user, **options):
        pages.append(Page(user, **options))
        return pages[-1]

    yield open_page
    for page in pages:
        page.session.close()


@pytest.fixture
def rule():
    """The rule of a node of its own: a permission decides, after what the test has put before."""

    def may(user):
        for act in may.before:
            act(user)
        return user.has_perm(PERMISSION)

    may.node = f"/test/{uuid.uuid4().hex}"
    may.before = []
    authorize(may.node)(may)
    nodes.create(may.node).result(10)
    yield may
    rules.withdraw(may)
    nodes.delete(may.node).exception(10)


@pytest.fixture
def allowed(ada):
    ada.user_permissions.add(permission())
    finish_errands()
    return User.objects.get(pk=ada.pk)


def permission():
    return Permission.objects.get(codename="view_user", content_type__app_label="auth")


def members(node):
    found = nodes.affiliations(node).result(10)
    return sorted(jid for jid, affiliation in found.items() if affiliation == "member")


def subscribers(node):
    return sorted(subscription.jid for subscription in nodes.subscriptions(node).result(10))


def jid(user):
    return f"{user.pk}@users.localhost"


def make_open(node):
    """As a node is that was there before its rule."""
    get_backend().configure_node(node, {"access_model": "open"}).result(10)


def say(node, item_id):
    publish(node, "Hello", item_id=item_id).result(10)


@pytest.mark.delivery
def test_nobody_subscribes_to_a_private_node_before_he_was_let_in(rule, allowed, open_page):
    page = open_page(allowed)
    assert "closed-node" in page.subscribe(rule.node)
    assert admit(allowed, rule.node)
    assert page.subscribe(rule.node) == ""
    say(rule.node, "1")
    assert page.events() == ["1"]


def test_one_who_may_not_stays_outside(rule, ada, open_page):
    assert not admit(ada, rule.node)
    assert "closed-node" in open_page(ada).subscribe(rule.node)
    assert (members(rule.node), Admission.objects.count()) == ([], 0)


def test_a_page_is_let_in_by_the_view(rule, allowed, client, open_page):
    client.force_login(allowed)
    response = client.post("/pubsub/authorize/", {"node": rule.node}, "application/json")
    assert response.status_code == 200
    assert open_page(allowed).subscribe(rule.node) == ""


def test_a_node_that_is_not_there_lets_nobody_in_and_is_not_made(rule, allowed):
    nodes.delete(rule.node).result(10)
    with pytest.raises(RequestRefused) as refused:
        admit(allowed, rule.node)
    assert refused.value.condition == "item-not-found"
    assert rule.node not in nodes.names().result(10)
    assert Admission.objects.count() == 0


@pytest.mark.delivery
def test_revocation_is_complete_when_its_future_is(rule, allowed, open_page):
    admit(allowed, rule.node)
    pages = [open_page(allowed), open_page(allowed)]
    for page in pages:
        page.subscribe(rule.node)
    pages[0].subscribe(rule.node, jid(allowed))
    say(rule.node, "1")
    allowed.user_permissions.clear()
    revoke(allowed, rule.node).result(10)
    say(rule.node, "2")
    heard = [event for page in pages for event in page.events()]
    assert "1" in heard
    assert "2" not in heard
    assert (members(rule.node), subscribers(rule.node)) == ([], [])
    assert "closed-node" in pages[0].subscribe(rule.node)
    assert Admission.objects.count() == 0


@pytest.mark.delivery
def test_others_are_not_disturbed_by_a_revocation(rule, allowed, open_page):
    bo = User.objects.create_user("bo", is_superuser=True)
    page = open_page(bo)
    for user in (allowed, bo):
        admit(user, rule.node)
    page.subscribe(rule.node)
    revoke(allowed, rule.node).result(10)
    say(rule.node, "1")
    assert page.events() == ["1"]
    assert members(rule.node) == [jid(bo)]


def test_revoking_what_nobody_has_is_done(rule, ada):
    revoke(ada, rule.node).result(10)
    nodes.delete(rule.node).result(10)
    revoke(ada, rule.node).result(10)


def test_a_revocation_waits_for_the_commit_and_goes_with_a_rollback(rule, allowed):
    admit(allowed, rule.node)
    with transaction.atomic():
        revoked = revoke(allowed, rule.node)
        transaction.set_rollback(True)
    assert revoked.cancelled()
    assert members(rule.node) == [jid(allowed)]
    with transaction.atomic():
        revoked = revoke(allowed, rule.node)
        assert not revoked.done()
    revoked.result(10)
    assert members(rule.node) == []


def test_who_revokes_waits_for_those_who_are_just_being_let_in(rule, allowed):
    """The permission goes after the rule has said yes, and before the server hears of it."""
    said_yes, go_on = threading.Event(), threading.Event()
    asked = []

    def hold(user):
        asked.append(user.has_perm(PERMISSION))
        if len(asked) == 2:
            said_yes.set()
            assert go_on.wait(20)

    rule.before.append(hold)
    with ThreadPoolExecutor(1) as pool:
        admitting = pool.submit(admit_in_thread, allowed, rule.node)
        assert said_yes.wait(20)
        rule.before.clear()
        User.objects.get(pk=allowed.pk).user_permissions.through.objects.all().delete()
        revoked = revoke(allowed, rule.node)
        with pytest.raises(NotYet):
            revoked.result(0.5)
        go_on.set()
        admitting.result(20)
    revoked.result(20)
    assert asked == [True, True]
    assert (members(rule.node), Admission.objects.count()) == ([], 0)
    assert not admit(User.objects.get(pk=allowed.pk), rule.node)


def admit_in_thread(user, node):
    try:
        return admit(user, node)
    finally:
        connections.close_all()


def test_a_permission_that_goes_between_the_two_looks_lets_nobody_in(rule, allowed):
    """Whoever revoked before there was a row has not waited; so the rule is asked again."""

    def take_away(user):
        rule.before.clear()
        user.has_perm(PERMISSION)  # as it was, Django remembers
        User.objects.get(pk=user.pk).user_permissions.through.objects.all().delete()
        revoke(user, rule.node).result(20)

    rule.before.append(take_away)
    assert not admit(allowed, rule.node)
    assert (members(rule.node), Admission.objects.count()) == ([], 0)


def test_many_admissions_at_once_leave_one_row(rule, allowed):
    start = threading.Barrier(5)

    def admit_together():
        start.wait(20)
        return admit_in_thread(allowed, rule.node)

    with ThreadPoolExecutor(5) as pool:
        admitted = [pool.submit(admit_together) for _ in range(5)]
        assert [each.result(30) for each in admitted] == [True] * 5
    assert admit(allowed, rule.node)
    assert members(rule.node) == [jid(allowed)]
    assert Admission.objects.filter(is_settled=True).count() == Admission.objects.count() == 1


@pytest.mark.delivery
def test_who_subscribes_while_he_is_revoked_hears_nothing_after_it(rule, allowed, open_page):
    pages = [open_page(allowed) for _ in range(3)]
    for number in range(5):
        allowed.user_permissions.add(permission())
        assert admit(User.objects.get(pk=allowed.pk), rule.node)
        start, over = threading.Barrier(len(pages) + 1), threading.Event()

        def storm(page, start=start, over=over):
            start.wait(20)
            while not over.is_set():
                page.subscribe(rule.node)
                page.subscribe(rule.node, jid(allowed))

        with ThreadPoolExecutor(len(pages)) as pool:
            storms = [pool.submit(storm, page) for page in pages]
            start.wait(20)
            allowed.user_permissions.through.objects.all().delete()
            revoke(allowed, rule.node).result(20)
            say(rule.node, f"too late {number}")
            assert (members(rule.node), subscribers(rule.node)) == ([], [])
            over.set()
            for each in storms:
                each.result(20)
        # What was the last item when they subscribed, they may have heard.
        assert f"too late {number}" not in [event for page in pages for event in page.events()]


@pytest.mark.delivery
def test_a_recheck_puts_out_whom_the_rule_does_not_allow_any_more(rule, allowed, open_page):
    bo = User.objects.create_user("bo", is_superuser=True)
    for user in (allowed, bo):
        admit(user, rule.node)
    page = open_page(allowed)
    page.subscribe(rule.node)
    nodes.set_affiliations(rule.node, {"carol@localhost": "member", "9@users.localhost": "member"})
    allowed.user_permissions.through.objects.all().delete()  # no signal
    assert recheck(rule.node).result(20) == sorted([jid(allowed), "9@users.localhost"])
    assert members(rule.node) == sorted([jid(bo), "carol@localhost"])
    assert subscribers(rule.node) == []
    assert recheck(rule.node).result(20) == []


@pytest.mark.delivery
def test_a_recheck_of_a_node_that_was_open_puts_out_who_was_there(rule, allowed, ada, open_page):
    bo = User.objects.create_user("bo")
    make_open(rule.node)
    guest = open_bosh(conf.prebind_url, "guests.localhost", "a-guest", "any password")
    pages = [open_page(allowed), open_page(bo)]
    try:
        for page in pages:
            assert page.subscribe(rule.node) == ""
        guest.request(subscribe(conf.pubsub_host, rule.node, guest.jid))
        assert recheck(rule.node).result(20) == sorted([jid(bo), "a-guest@guests.localhost"])
        assert subscribers(rule.node) == [pages[0].jid]
    finally:
        guest.close()


def test_who_was_there_before_the_rule_is_put_out_when_his_right_goes(rule, allowed, open_page):
    make_open(rule.node)
    page = open_page(allowed)
    assert page.subscribe(rule.node) == ""
    assert recheck(rule.node).result(20) == []
    assert nodes.configuration(rule.node).result(10)["access_model"] == "whitelist"
    allowed.user_permissions.clear()
    until(lambda: subscribers(rule.node) == [], "he is out")


def test_a_right_that_goes_while_its_owner_is_found_on_the_node_is_seen(rule, allowed, open_page):
    """Whoever took it away found no row; so the rule is asked again when there is one."""

    def take_away(user):
        rule.before.clear()
        user.has_perm(PERMISSION)  # as it was, Django remembers
        User.objects.get(pk=user.pk).user_permissions.clear()
        finish_errands()

    make_open(rule.node)
    open_page(allowed).subscribe(rule.node)
    rule.before.append(take_away)
    assert recheck_node(rule.node) == [jid(allowed)]
    assert (subscribers(rule.node), Admission.objects.count()) == ([], 0)


def test_an_account_with_a_password_is_no_user_of_the_site(rule):
    nodes.set_affiliations(rule.node, {"carol@users.localhost": "member"}).result(10)
    nodes.set_subscriptions(rule.node, {"dave@users.localhost": "subscribed"}).result(10)
    assert recheck(rule.node).result(20) == ["dave@users.localhost"]
    assert members(rule.node) == ["carol@users.localhost"]


def test_without_a_rule_who_was_let_in_by_one_is_put_out_and_others_stay(rule, allowed):
    admit(allowed, rule.node)
    nodes.set_affiliations(rule.node, {"9@users.localhost": "member"}).result(10)
    rules.withdraw(rule)
    assert recheck(rule.node).result(20) == [jid(allowed)]
    assert members(rule.node) == ["9@users.localhost"]


def test_a_recheck_of_a_node_that_is_not_there_finds_nobody():
    assert recheck("/test/nowhere").result(20) == []


@pytest.mark.parametrize(
    "take_away",
    [
        lambda user: user.user_permissions.clear(),
        lambda user: permission().user_set.remove(user),
        lambda user: permission().user_set.clear(),
        lambda user: permission().delete(),
        lambda user: User.objects.filter(pk=user.pk).first().delete(),
        lambda user: (setattr(user, "is_active", False), user.save()),
    ],
    ids=["clear", "reverse", "reverse clear", "permission", "deleted", "inactive"],
)
def test_a_right_that_goes_puts_its_owner_out(rule, allowed, take_away):
    admit(allowed, rule.node)
    take_away(allowed)
    until(lambda: members(rule.node) == [], "he is out")
    until(lambda: Admission.objects.count() == 0, "nothing is remembered")


@pytest.mark.parametrize(
    "take_away",
    [
        lambda user, group: user.groups.remove(group),
        lambda user, group: group.user_set.remove(user),
        lambda user, group: group.permissions.clear(),
        lambda user, group: group.permissions.remove(permission()),
        lambda user, group: permission().group_set.clear(),
        lambda user, group: group.delete(),
    ],
    ids=["leaves", "is removed", "clear", "remove", "reverse", "deleted"],
)
def test_a_groups_right_that_goes_puts_its_members_out(rule, ada, take_away):
    group = Group.objects.create(name="readers")
    group.permissions.add(permission())
    ada.groups.add(group)
    admit(User.objects.get(pk=ada.pk), rule.node)
    take_away(ada, group)
    until(lambda: members(rule.node) == [], "she is out")


@pytest.mark.parametrize(
    "take_away",
    [
        lambda user, node: user.user_permissions.clear(),
        lambda user, node: revoke(user, node),
        lambda user, node: recheck(node),
        lambda user, node: (
            user.delete(),
            errands.finish(),
            errands._forget_parents(),  # the process ended, and another one began
            User.objects.create_user("bo", id=int(Admission.objects.get().name)),
        ),
    ],
    ids=["signal", "revoke", "recheck", "the key is used again"],
)
def test_what_is_taken_away_while_the_server_is_away_is_gone_when_it_is_back(
    stack, rule, allowed, xmpp_settings, caplog, take_away
):
    admit(allowed, rule.node)
    User.objects.get(pk=allowed.pk).user_permissions.through.objects.all().delete()  # no signal
    with Proxy(stack.ports.xmpp) as proxy:
        proxy.go_down()
        xmpp_settings.XMPP_TIMEOUT = 0.5
        xmpp_settings.XMPP_PORT = proxy.port
        take_away(allowed, rule.node)
        until(lambda: "It is tried again" in caplog.text, "nobody answers")
        until(lambda: "manage.py pubsub_recheck" in caplog.text, "what to run is said")
        proxy.come_up()
        until(lambda: Admission.objects.count() == 0, "he is out")
        assert members(rule.node) == []
        xmpp_settings.XMPP_TIMEOUT = 10
        xmpp_settings.XMPP_PORT = stack.ports.xmpp


def test_what_is_rolled_back_takes_nothing_away(rule, allowed):
    admit(allowed, rule.node)
    with transaction.atomic():
        allowed.user_permissions.clear()
        transaction.set_rollback(True)
    assert recheck(rule.node).result(20) == []
    assert members(rule.node) == [jid(allowed)]


def test_who_logs_out_is_logged_out_of_the_server_and_his_token_with_him(ada, client, open_page):
    client.force_login(ada)
    other = Client()
    other.force_login(ada)
    token = client.get("/pubsub/credentials/").json()["password"]
    theirs = other.get("/pubsub/credentials/").json()["password"]
    page = open_page(ada, password=token)
    client.logout()
    until(page.is_gone, "the session has ended")
    with pytest.raises(AuthenticationError):
        Page(ada, token)
    assert not open_page(ada, password=theirs).is_gone()


@pytest.mark.parametrize(
    "act",
    [
        lambda user: (setattr(user, "is_active", False), user.save(update_fields=["is_active"])),
        lambda user: (user.set_password("another"), user.save()),
        lambda user: user.delete(),
    ],
    ids=["inactive", "password", "deleted"],
)
def test_who_must_not_go_on_is_logged_out_of_the_server(ada, open_page, act):
    token = make_credentials(ada).password
    page = open_page(ada, password=token)
    before = User.objects.get(pk=ada.pk)
    act(User.objects.get(pk=ada.pk))
    until(page.is_gone, "the session has ended")
    with pytest.raises(AuthenticationError):
        Page(before, token)


def test_a_page_comes_back_after_its_sessions_were_ended(ada, open_page):
    page = open_page(ada)
    end_sessions(ada).result(20)
    assert page.is_gone()
    assert not open_page(ada).is_gone()


def test_the_command_asks_all_rules_again_and_says_who_is_out(rule, allowed):
    admit(allowed, rule.node)
    allowed.user_permissions.through.objects.all().delete()
    out = io.StringIO()
    call_command("pubsub_recheck", stdout=out)
    assert out.getvalue() == f"{jid(allowed)} is out of {rule.node}\n"
    assert members(rule.node) == []


def test_the_command_asks_about_one_user(rule, allowed):
    admit(allowed, rule.node)
    allowed.user_permissions.through.objects.all().delete()
    out = io.StringIO()
    call_command("pubsub_recheck", "--user", str(allowed.pk), stdout=out)
    assert out.getvalue() == f"user {allowed.pk} is out of {rule.node}\n"
    assert members(rule.node) == []


def test_who_was_let_in_publishes_where_members_may_until_he_is_revoked(rule, allowed, open_page):
    nodes.configure(rule.node, publish_model=PUBLISH_MODELS["members"]).result(10)
    admit(allowed, rule.node)
    page, stranger = open_page(allowed), open_page(User.objects.create_user("bo"))
    assert "forbidden" in page.publish(rule.node)  # he has to be subscribed
    page.subscribe(rule.node)
    assert page.publish(rule.node) == ""
    assert "forbidden" in stranger.publish(rule.node)
    allowed.user_permissions.through.objects.all().delete()
    revoke(allowed, rule.node).result(10)
    assert "forbidden" in page.publish(rule.node)


def test_only_django_publishes_where_nothing_else_was_said(rule, allowed, open_page):
    admit(allowed, rule.node)
    page = open_page(allowed)
    page.subscribe(rule.node)
    assert "forbidden" in page.publish(rule.node)
