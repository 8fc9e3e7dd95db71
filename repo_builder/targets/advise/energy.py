"""Power over time: average draw, energy of an inference, life of a battery, cost of a year."""

from __future__ import annotations

from repo_builder.targets.types import PowerMode, Target

_HOURS_A_YEAR = 8760


def average_watts(target: Target, mode: PowerMode | None, busy: float) -> float | None:
    """The draw of a device that is busy for the share `busy` (0..1) of the time.

    The mode's budget counts as the draw under load and the assumed idle draw as the rest; where
    that is unknown, the budget alone. None where the budget is unknown.
    """
    if mode is None or mode.watts is None:
        return None
    idle = target.assumptions.idle_watts if target.assumptions else None
    if idle is None or idle >= mode.watts:
        return mode.watts
    return idle + (mode.watts - idle) * busy


def battery_hours(battery_wh: float, device_watts: float, system_watts: float) -> float:
    """Hours that a battery lasts: the system draws its share whatever the model does.

    The guide's V.C forgets that share in its last line: 100 Wh at 6 W + 2 W are 12.5 h, not 16.7.
    """
    return battery_wh / (device_watts + system_watts)


def yearly_cost(watts: float, price_kwh: float) -> float:
    """The price of a year of `watts`, in the currency of `price_kwh`."""
    return watts * _HOURS_A_YEAR / 1000 * price_kwh
