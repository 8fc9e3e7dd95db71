"""The arithmetic of costs: pure, from figures by name.

A year in the cloud is compute and all data sent there. A year at the edge is the share that falls
back, which pays both compute and transport again, with power and support. What is bought once is
divided by what a year saves:

    payback = once / saving                       without discounting
    payback = -ln(1 - once x r / saving) / r      with r = ln(1 + discount), for a steady saving
    value   = saving x (1 - e^(-r years)) / r - once      (net present value)

(continuous discounting; Brealey, Myers and Allen, "Principles of Corporate Finance", ch. 2).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import quantiles

HOURS = 8766.0
"""Of a year, with its leap day's share."""

DRAWS = 10_000
WITHIN = 0.9
"""The share of draws that an interval holds."""

SWING = 0.2
"""How far each figure is moved, up and down, where no figure has a range."""


@dataclass(frozen=True)
class Range:
    """What a figure may be: least, most likely, most. One value three times where it is known."""

    low: float
    likely: float
    high: float

    @property
    def open(self) -> bool:
        """Whether it is a range at all."""
        return self.low < self.high


Figures = Mapping[str, float]


@dataclass(frozen=True)
class Costs:
    """What one set of figures amounts to, in the file's currency; `payback` in years, inf: never.

    `cloud` and `edge` are a year's, by what they are for.
    """

    once: dict[str, float]
    cloud: dict[str, float]
    edge: dict[str, float]
    saving: float
    payback: float
    value: float


@dataclass(frozen=True)
class Swing:
    """What one figure alone moves: the value at its low and at its high end."""

    name: str
    low: float
    high: float
    value_low: float
    value_high: float

    @property
    def width(self) -> float:
        """How much hangs on it."""
        return abs(self.value_high - self.value_low)


@dataclass(frozen=True)
class Answer:
    """The likely costs, 90 % intervals of payback and value, and what they hang on, most first.

    Intervals are None where no figure has a range. `pays` is the share of draws that pay back
    within the devices' years. `assumed` says that swings are of 20 % each for lack of ranges.
    """

    currency: str
    years: float
    likely: Costs
    payback: tuple[float, float] | None
    value: tuple[float, float] | None
    pays: float | None
    swings: tuple[Swing, ...]
    assumed: bool


def costs(f: Figures) -> Costs:
    """The costs of one set of figures."""
    devices, share = f["devices"], f["fallback_share"]
    gb = devices * f["cloud.gb_per_device_month"] * 12
    watts = f["edge.watts_per_device"]
    once = {
        "hardware": devices * f["once.hardware_per_device"],
        "installation": devices * f["once.installation_per_device"],
        "development": f["once.development"],
    }
    cloud = {
        "compute": f["cloud.compute_per_year"],
        "bandwidth": gb * f["cloud.price_per_gb"],
        "power": 0.0,
        "support": 0.0,
    }
    edge = {
        "compute": share * cloud["compute"],
        "bandwidth": share * gb * f["edge.price_per_gb"],
        "power": f["edge.power_per_year"]
        + devices * watts / 1000 * HOURS * f["edge.price_per_kwh"],
        "support": f["edge.support_per_year"],
    }
    saving = sum(cloud.values()) - sum(edge.values())
    bought, rate = sum(once.values()), math.log1p(f["discount"])
    return Costs(
        once, cloud, edge, saving, _payback(bought, saving, rate), _value(f, saving, bought, rate)
    )


def _payback(bought: float, saving: float, rate: float) -> float:
    if bought == 0 and saving >= 0:
        return 0.0
    if saving <= 0:
        return math.inf
    if rate == 0:
        return bought / saving
    part = bought * rate / saving
    return -math.log1p(-part) / rate if part < 1 else math.inf


def _value(f: Figures, saving: float, bought: float, rate: float) -> float:
    years = f["years"]
    worth = -math.expm1(-rate * years) / rate if rate else years
    return saving * worth - bought


def answer(figures: Mapping[str, Range], currency: str) -> Answer:
    """What the figures amount to. The same figures always give the same answer.

    Intervals come from draws of triangular distributions, each figure by itself.
    """
    likely = {name: figure.likely for name, figure in figures.items()}
    ranges = {name: figure for name, figure in figures.items() if figure.open}
    swung = ranges or {
        name: Range((1 - SWING) * figure.likely, figure.likely, _most(name, figure.likely))
        for name, figure in figures.items()
        if figure.likely
    }
    swings = []
    for name, figure in swung.items():
        at_low, at_high = (costs({**likely, name: end}).value for end in (figure.low, figure.high))
        swings.append(Swing(name, figure.low, figure.high, at_low, at_high))
    swings.sort(key=lambda swing: (-swing.width, swing.name))
    found = costs(likely)
    if not ranges:
        return Answer(
            currency, likely["years"], found, None, None, None, tuple(swings), assumed=True
        )
    rng = random.Random(0)  # noqa: S311 - no secret
    drawn = []
    for _ in range(DRAWS):
        these = dict(likely)
        for name, figure in ranges.items():
            these[name] = rng.triangular(figure.low, figure.high, figure.likely)
        drawn.append(costs(these))
    return Answer(
        currency,
        likely["years"],
        found,
        _within([one.payback for one in drawn]),
        _within([one.value for one in drawn]),
        sum(one.value >= 0 for one in drawn) / DRAWS,
        tuple(swings),
        assumed=False,
    )


def _most(name: str, likely: float) -> float:
    return min(1.0, (1 + SWING) * likely) if name == "fallback_share" else (1 + SWING) * likely


def _within(values: list[float]) -> tuple[float, float]:
    """The ends that leave 5 % out on either side; infinity is an end as any other."""
    ordered = sorted(values)
    if math.isinf(ordered[-1]):
        tail = int(len(ordered) * (1 - WITHIN) / 2)
        return ordered[tail], ordered[-1 - tail]
    cuts = quantiles(ordered, n=20, method="inclusive")
    return cuts[0], cuts[-1]
