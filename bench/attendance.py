"""What visitors take of servers, those who come and go and those who stay; pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.measure import Spread


@dataclass(frozen=True)
class Arrival:
    """A round of visits.

    :param seconds: until the last of them had left.
    :param servers: CPU seconds of the servers, until they were quiet again.
    :param visitors: CPU seconds of the visitors.
    """

    visits: int
    seconds: float
    servers: float
    visitors: float

    @property
    def rate(self) -> float:
        """Visits per second."""
        return self.visits / self.seconds

    @property
    def cost(self) -> float:
        """CPU time of the servers for a visit, in milliseconds."""
        return 1000 * self.servers / self.visits


@dataclass(frozen=True)
class Arrivals:
    """Rounds of visits, beside those of another task in the same rounds, if there is one.

    :param rate: visits per second.
    :param cost: of the servers' CPU time, in milliseconds.
    :param share: how much of one processor the visitors themselves took.
    :param ratio: of the costs.
    :param speed: of the rates.
    """

    rate: Spread
    cost: Spread
    share: float
    ratio: Spread | None = None
    speed: Spread | None = None

    @classmethod
    def over(cls, rounds: Sequence[Arrival], base: Sequence[Arrival] | None = None) -> Arrivals:
        """Of one round or more."""
        pairs = [] if base is None else list(zip(rounds, base, strict=True))
        return cls(
            Spread.over(each.rate for each in rounds),
            Spread.over(each.cost for each in rounds),
            Spread.over(each.visitors / each.seconds for each in rounds).median,
            Spread.over(our.cost / their.cost for our, their in pairs) if pairs else None,
            Spread.over(our.rate / their.rate for our, their in pairs) if pairs else None,
        )


@dataclass(frozen=True)
class Holding:
    """Memory of the servers, in bytes."""

    ejabberd: float
    nginx: float

    @property
    def both(self) -> float:
        """Of all servers."""
        return self.ejabberd + self.nginx

    def since(self, before: Holding, visitors: int) -> Holding:
        """What each of so many visitors has added."""
        return Holding(
            (self.ejabberd - before.ejabberd) / visitors, (self.nginx - before.nginx) / visitors
        )


@dataclass(frozen=True)
class Growth:
    """What a visitor takes, in kilobytes of 1,024 bytes.

    :param both: of ejabberd and nginx together.
    :param ratio: of the medians, to that of another task, if there is one.
    """

    both: Spread
    ejabberd: float
    nginx: float
    ratio: float | None = None

    @classmethod
    def over(cls, rounds: Sequence[Holding], base: Sequence[Holding] | None = None) -> Growth:
        """Of one round or more."""
        both = Spread.over(each.both / 1024 for each in rounds)
        return cls(
            both,
            Spread.over(each.ejabberd / 1024 for each in rounds).median,
            Spread.over(each.nginx / 1024 for each in rounds).median,
            None if base is None else both.median / cls.over(base).both.median,
        )
