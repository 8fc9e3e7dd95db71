"""A soak as lines of text, and as a chart."""

from __future__ import annotations

from collections.abc import Iterator

from repo_builder.base.svg import line_chart
from repo_builder.tune.soak.judge import Kept, Soak


def lines(soak: Soak, found: Kept) -> Iterator[str]:
    """What the device keeps and why, in words."""
    within = f" ({_range(found.interval)})" if found.interval else " (too few slices to be sure)"
    yield (
        f"keeps {found.share:.1%}{within} of its throughput: {found.first:.1f} a second in the "
        f"first minute, {found.last:.1f} in the last quarter"
    )
    if found.falling:
        yield "still falling in the last quarter: not steady yet, soak longer"
    elif found.interval and not found.changed:
        yield "no change beyond noise"
    if found.p99_ms:
        yield f"99th percentile: {found.p99_ms[0]:.3g} -> {found.p99_ms[1]:.3g} ms"
    if found.celsius:
        yield f"warmest zone: {found.celsius[0]:.1f} -> {found.celsius[1]:.1f} C"
    if found.mhz:
        yield f"clocks of the CPUs: {found.mhz[0]:.0f} -> {found.mhz[1]:.0f} MHz"
    for name, count in found.throttles:
        yield f"throttled: {name} {count} times"
    if found.changed and not (found.celsius or found.mhz or found.throttles):
        yield "whether heat is why, nothing here tells: no temperature, clock or counter was read"
    if found.watts is not None:
        yield f"power: {found.watts:.2f} W"
    if found.energy is not None:
        per = found.energy
        mj = f"{1e3 * per.joules:.3g} mJ"
        if per.interval:
            mj += f" ({1e3 * per.interval[0]:.3g} to {1e3 * per.interval[1]:.3g})"
        yield (
            f"energy: {mj} a call above the {per.idle_watts:.2f} W at rest; "
            f"{1e3 * per.gross:.3g} mJ with them"
        )
    failed = sum(one.errors for one in soak.slices)
    if failed:
        yield f"{failed} calls failed and count for nothing"


def chart(title: str, soak: Soak, found: Kept) -> str:
    """Throughput, clock and power as shares of their first values, and the warmest zone, as SVG."""
    slices = soak.slices
    series = {
        "throughput, %": [(s.at_s / 60, 100 * s.per_second / found.first) for s in slices],
    }
    if found.mhz and found.mhz[0]:
        base = found.mhz[0]
        series["CPU clock, %"] = [(s.at_s / 60, 100 * s.mhz / base) for s in slices if s.mhz]
    if found.celsius:
        series["warmest, C"] = [(s.at_s / 60, s.celsius) for s in slices if s.celsius is not None]
    watts = [(s.at_s / 60, s.joules / s.seconds) for s in slices if s.joules is not None]
    if watts:
        series["power, W"] = watts
    minutes = sum(s.seconds for s in slices) / 60
    step = next((n for n in (1, 2, 5, 10, 30, 60, 120) if minutes / n <= 10), 1440)
    ticks = [(float(at), str(at)) for at in range(step, int(minutes) + 1, step)]
    return line_chart(title, "minutes", ", ".join(series), series, x_ticks=ticks)


def _range(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.1%} to {interval[1]:.1%}"
