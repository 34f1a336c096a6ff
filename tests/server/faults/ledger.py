"""The ledger: what was committed, against what the nodes hold and what each subscriber saw.

It is pure: nothing here talks to anybody.  A state is a text that occurs once in a run, so that
whoever shows it tells which change it comes from.  Changes with the same ``order`` happened one
after the other, in the order of their ``version``: the states of one row, or what one thread put on
one log.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

#: What a verdict may find.
LOST = "lost"
WRONG = "wrong on the node"
ROLLED_BACK = "rolled back, yet published"
REPEATED = "repeated"
DISORDER = "out of order"
VIEW = "wrong on the page"
KINDS = (LOST, WRONG, ROLLED_BACK, REPEATED, DISORDER, VIEW)


@dataclass(frozen=True)
class Change:
    """What one transaction did to one node.

    :param id: of the item; None on a log, where each change is an item of its own.
    :param state: the text that the item shows; None: it was taken away.
    """

    node: str
    id: str | None
    state: str | None
    order: str
    version: int


@dataclass(frozen=True)
class Seen:
    """An event as it arrived.

    :param state: None for a retraction.
    :param seq: ``source.number`` of the payload, where it bears one.
    """

    node: str
    id: str
    state: str | None
    seq: str | None = None


@dataclass(frozen=True)
class Synced:
    """All items of a node, as a page fetches them when it has subscribed (again)."""

    node: str
    items: tuple[Seen, ...]


@dataclass
class Diary:
    """What one subscriber saw, in order.

    :param interrupted: whether his stream was lost in between: then he need not have seen every
        state, but the last of each row, and all that is on a log.
    """

    name: str
    entries: list[Seen | Synced] = field(default_factory=list)
    interrupted: bool = False

    def copy(self) -> Diary:
        """What it says up to now; others may go on writing."""
        return Diary(self.name, list(self.entries), self.interrupted)


@dataclass(frozen=True)
class Fault:
    kind: str
    #: Who saw it: a subscriber, or ``node``.
    who: str
    text: str


@dataclass
class Account:
    """What one subscriber saw, in numbers."""

    name: str
    events: int = 0
    #: States that were new to him.
    seen: int = 0
    #: Events that a page drops by their number.
    dropped: int = 0
    #: The same items again after a retraction, which tells pages no number.
    again: int = 0


@dataclass
class Verdict:
    """What a run came to."""

    committed: int
    rolled_back: int
    held: int
    accounts: list[Account]
    faults: list[Fault]

    @property
    def is_clean(self) -> bool:
        return not self.faults

    @property
    def repeats(self) -> int:
        """Items that were sent again and reached anybody; pages drop them."""
        return sum(account.dropped + account.again for account in self.accounts)

    def count(self, kind: str, who: str | None = None) -> int:
        return sum(f.kind == kind and who in (None, f.who) for f in self.faults)

    def as_json(self) -> str:
        return json.dumps({**asdict(self), "clean": self.is_clean})

    def table(self) -> str:
        """All of it for a person, the first faults word for word."""
        lines = [
            f"{self.committed} committed, {self.rolled_back} undone; {self.held} items",
            f"{'':14}{'events':>8}{'seen':>8}{'dropped':>9}{'again':>7}"
            + "".join(f"{heading:>10}" for heading in HEADINGS.values()),
        ]
        for account in [Account("node"), *self.accounts]:
            counts = "".join(f"{self.count(kind, account.name):>10}" for kind in HEADINGS)
            numbers = f"{account.events:>8}{account.seen:>8}{account.dropped:>9}{account.again:>7}"
            if account.name == "node":
                numbers = f"{'':32}"
            lines.append(f"{account.name:14}{numbers}{counts}")
        lines += [f"{fault.kind} ({fault.who}): {fault.text}" for fault in self.faults[:20]]
        if len(self.faults) > 20:
            lines.append(f"… and {len(self.faults) - 20} more")
        return "\n".join(lines)


HEADINGS = {
    LOST: "lost",
    WRONG: "wrong",
    ROLLED_BACK: "undone",
    REPEATED: "repeated",
    DISORDER: "disorder",
    VIEW: "page",
}


def judge(
    committed: Iterable[Change],
    rolled_back: Iterable[Change],
    held: Mapping[str, Iterable[Seen]],
    diaries: Iterable[Diary],
) -> Verdict:
    """Compare what was committed with what there is, and with what was seen.

    :param held: what each node holds at the end.
    """
    committed = list(committed)
    undone = {change.state for change in rolled_back if change.state is not None}
    nodes = {node: list(items) for node, items in held.items()}
    case = _Case(committed, undone)
    case.judge_nodes(nodes)
    accounts = [case.judge_diary(diary, nodes) for diary in diaries]
    total = sum(map(len, nodes.values()))
    return Verdict(len(committed), len(undone), total, accounts, case.faults)


class Page:
    """What a page shows that keeps to the client's rule, and what it drops by it.

    The rule: an item is dropped whose number is not greater than the last one of that node and id
    from that source.  After a retraction anything is new.
    """

    def __init__(self) -> None:
        self.shown: dict[str, dict[str, str | None]] = defaultdict(dict)
        self._numbers: dict[tuple[str, str], tuple[str, int]] = {}

    def take(self, seen: Seen) -> bool:
        """Whether an event changes what is shown."""
        place = (seen.node, seen.id)
        if seen.state is None:
            self._numbers.pop(place, None)
            self.shown[seen.node].pop(seen.id, None)
            return True
        if seen.seq is not None:
            source, _, number = seen.seq.rpartition(".")
            last = self._numbers.get(place)
            if last is not None and last[0] == source and int(number) <= last[1]:
                return False
            self._numbers[place] = (source, int(number))
        self.shown[seen.node][seen.id] = seen.state
        return True

    def sync(self, synced: Synced) -> None:
        """Show what was fetched, and forget what is not there any more."""
        for place in [place for place in self._numbers if place[0] == synced.node]:
            del self._numbers[place]
        self.shown[synced.node] = {}
        for item in synced.items:
            self.take(item)


# Private


class _Case:
    """The changes of one run, and what is found to be wrong."""

    def __init__(self, committed: list[Change], undone: set[str]) -> None:
        self.faults: list[Fault] = []
        self._undone = undone
        self._logged = [change for change in committed if change.id is None]
        self._by_state = {c.state: c for c in committed if c.state is not None}
        #: The changes of each item that is overwritten, oldest first.
        self._histories: dict[tuple[str, str], list[Change]] = defaultdict(list)
        for change in sorted(committed, key=lambda change: change.version):
            if change.id is not None:
                self._histories[change.node, change.id].append(change)

    def judge_nodes(self, nodes: Mapping[str, list[Seen]]) -> None:
        held = {(item.node, item.id): item.state for items in nodes.values() for item in items}
        for (node, id), history in self._histories.items():
            last = history[-1].state
            found = held.get((node, id))
            if found != last:
                self._find(WRONG, "node", f"{id} on {node} is {found!r} and should be {last!r}")
        times = defaultdict(int)
        for item in (item for items in nodes.values() for item in items):
            times[item.state] += 1
            if item.state not in self._by_state:
                self._find(self._kind_of(item.state), "node", f"{item.state!r} on {item.node}")
        for change in self._logged:
            count = times[change.state]
            if count == 0:
                self._find(LOST, "node", f"{change.state!r} is not on {change.node}")
            elif count > 1:
                self._find(REPEATED, "node", f"{change.state!r} is {count} times on {change.node}")

    def judge_diary(self, diary: Diary, nodes: Mapping[str, list[Seen]]) -> Account:
        account = Account(diary.name)
        page = Page()
        met: set[str | None] = set()  # states, as events or fetched
        shown: set[Seen] = set()  # events; what was fetched, too, if he had been away
        newest: dict[tuple[str, str], int] = {}  # of each order on each node
        tracks: dict[tuple[str, str], list[int | None]] = defaultdict(list)  # None: retracted
        for told in diary.entries:
            if isinstance(told, Synced):
                page.sync(told)
                met.update(item.state for item in told.items)
                if diary.interrupted:
                    # What is sent again now may be older than what he has just fetched, and he
                    # may have missed it.  Only events are held against each other.
                    newest = {place: n for place, n in newest.items() if place[0] != told.node}
                    shown.update(told.items)
                    continue
                for item in told.items:
                    self._note(item, newest)
                continue
            account.events += 1
            if not page.take(told):
                account.dropped += 1
                self._take_dropped(diary, told, newest, met)
            elif told.state is None:
                tracks[told.node, told.id].append(None)
            elif told.seq is not None and told in shown:
                account.again += 1
            elif told.state in met:
                self._find(REPEATED, diary.name, f"{told.state!r} on {told.node} ({told.seq})")
            else:
                account.seen += 1
                self._take_new(diary.name, told, newest, tracks)
            met.add(told.state)
            shown.add(told)
        self._find_lost(diary, met, tracks)
        self._compare_view(diary.name, page, nodes)
        return account

    # Private

    def _take_new(
        self,
        name: str,
        told: Seen,
        newest: dict[tuple[str, str], int],
        tracks: dict[tuple[str, str], list[int | None]],
    ) -> None:
        """Look at a state that a subscriber had not met."""
        change = self._by_state.get(told.state)
        if change is None:
            self._find(self._kind_of(told.state), name, f"{told.state!r} on {told.node}")
            return
        tracks[told.node, told.id].append(change.version)
        if not self._is_in_order(told, newest):
            self._find_late(name, told)
        self._note(told, newest)

    def _take_dropped(
        self,
        diary: Diary,
        told: Seen,
        newest: dict[tuple[str, str], int],
        met: set[str | None],
    ) -> None:
        """Look at a state that a page drops."""
        if diary.interrupted and self._is_in_order(told, newest):
            self._note(told, newest)
        elif told.state not in met:
            self._find_late(diary.name, told)

    def _is_in_order(self, told: Seen, newest: Mapping[tuple[str, str], int]) -> bool:
        """Whether nothing newer of its order was told before."""
        change = self._by_state.get(told.state)
        return change is not None and change.version >= newest.get((change.node, change.order), -1)

    def _find_late(self, name: str, told: Seen) -> None:
        text = f"{told.state!r} on {told.node} ({told.seq}) came after a later one"
        self._find(DISORDER, name, text)

    def _find_lost(
        self,
        diary: Diary,
        met: set[str | None],
        tracks: Mapping[tuple[str, str], list[int | None]],
    ) -> None:
        awaited = self._logged if diary.interrupted else self._by_state.values()
        for change in awaited:
            if change.state not in met:
                self._find(LOST, diary.name, f"{change.state!r} on {change.node}")
        if diary.interrupted:
            return
        for (node, id), history in self._histories.items():
            for change in history:
                if change.state is None and not _shows(tracks.get((node, id), []), change.version):
                    text = f"that {id} left {node} (its version {change.version})"
                    self._find(LOST, diary.name, text)

    def _compare_view(self, name: str, page: Page, nodes: Mapping[str, list[Seen]]) -> None:
        for node, items in nodes.items():
            held = {item.id: item.state for item in items}
            shown = page.shown[node]
            for id in held.keys() | shown.keys():
                if held.get(id) != shown.get(id):
                    text = f"shows {shown.get(id)!r} as {id} of {node}, which is {held.get(id)!r}"
                    self._find(VIEW, name, text)

    def _note(self, item: Seen, newest: dict[tuple[str, str], int]) -> None:
        change = self._by_state.get(item.state)
        if change is not None:
            place = (change.node, change.order)
            newest[place] = max(newest.get(place, -1), change.version)

    def _kind_of(self, state: str | None) -> str:
        """What it is to meet a state that was not committed."""
        return ROLLED_BACK if state in self._undone else WRONG

    def _find(self, kind: str, who: str, text: str) -> None:
        self.faults.append(Fault(kind, who, text))


def _shows(track: list[int | None], version: int) -> bool:
    """Whether a retraction came between what is older than a version and what is newer."""
    older = [n for n, seen in enumerate(track) if seen is not None and seen < version]
    newer = [n for n, seen in enumerate(track) if seen is not None and seen > version]
    start = older[-1] + 1 if older else 0
    end = newer[0] if newer else len(track)
    return None in track[start:end]
