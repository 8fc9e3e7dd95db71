"""A run as text and as Markdown: rows of a table, and sentences about the machine."""

from __future__ import annotations

from collections.abc import Sequence

from repo_builder.base import console
from repo_builder.tune.measure.compare import Change, Comparison
from repo_builder.tune.measure.types import Cell, Figure, Measured

HEADER = (
    "model", "precision", "runtime", "batch", "rows/s", "+-", "p50 ms", "p99 ms", "model MB",
    "process MB", "rows/J",
)  # fmt: skip
FIGURES = tuple(range(3, len(HEADER)))
DROPPED = (9, 10, 8, 5, 7)
"""Columns that a narrow terminal does without, the first of them first."""


def rows(measured: Measured) -> list[tuple[str, ...]]:
    """A row of texts for each cell, as `HEADER` has them; "?" marks what is in doubt."""
    return [row(cell) for cell in measured.cells]


def row(cell: Cell) -> tuple[str, ...]:
    """The texts of a cell."""
    memory = cell.memory
    asked = f", {cell.callers} at once" if cell.callers else ""
    return (
        cell.model,
        cell.precision,
        cell.runtime + asked,
        str(cell.batch),
        _number(cell.rows_per_second.value) + (" ?" if cell.doubt else ""),
        _half(cell.rows_per_second),
        _number(cell.p50_ms.value),
        _number(cell.p99_ms.value) if cell.p99_ms else "-",
        f"{memory.model:.1f}" if memory else "-",
        f"{memory.resident:.0f}" if memory else "-",
        _number(cell.rows_per_joule.value) if cell.rows_per_joule else "-",
    )


def table(measured: Measured) -> str:
    """The table for a terminal."""
    return console.table(HEADER, rows(measured), FIGURES, drop=DROPPED)


def machine(measured: Measured) -> list[tuple[str, str]]:
    """What is known of the machine, as names and texts."""
    found, before, after = measured.hardware, measured.before, measured.after
    quota = f", a quota of {found.quota:g}" if found.quota is not None else ""
    virtual = ", a virtual machine" if found.virtual else ""
    unknown = "not said by this system"
    facts = [
        ("machine", f"{found.cpu}, {found.architecture}{virtual}"),
        ("cores", f"{found.cores} of {found.cores_online} online{quota}"),
        ("threads", str(measured.threads or "as the runtime likes")),
        ("instructions", " ".join(found.flags) or unknown),
        ("governor", " ".join(found.governors) or unknown),
        ("clock", _pair(before.mhz, after.mhz, "MHz") or unknown),
        ("temperature", _pair(before.celsius, after.celsius, "°C") or unknown),
        ("slowed down by heat", _slowed(measured) or unknown),
        ("load average", _pair(before.load, after.load, "") or unknown),
        ("system", found.system),
        ("runtimes", ", ".join(f"{name} {version}" for name, version in measured.tools.items())),
        ("measured", f"{measured.at}, {measured.rounds} rounds in {measured.seconds:.0f} s"),
    ]
    return [(name, text) for name, text in facts if text]


def sentences(measured: Measured) -> list[str]:
    """What a reader must know of the figures, a sentence each."""
    said = []
    wide = [cell for cell in measured.cells if not cell.narrow]
    if not measured.finished:
        said.append("ended early: not all was measured")
    if wide:
        worst = max(wide, key=lambda cell: cell.rows_per_second.wide)
        shown = _half(worst.rows_per_second)
        said.append(
            f"{len(wide)} of {len(measured.cells)} intervals are wider than "
            f"+-{measured.within:.1%}, the widest {shown} ({worst.name}); "
            "give it more --seconds, or a quieter machine"
        )
    if doubtful := [cell for cell in measured.cells if cell.doubt]:
        first = doubtful[0]
        said.append(
            f"? not to be trusted: {len(doubtful)} of {len(measured.cells)}, "
            f"first {first.name}: {first.doubt}"
        )
    repeated = {cell.key[:4]: cell.repeated for cell in measured.cells}
    if again := sum(repeated.values()):
        said.append(f"{again} visits were made again, since others used the machine")
    if (slowed := _slowed(measured)) and not slowed.startswith("0"):
        said.append(f"heat or power slowed the cores down {slowed} meanwhile")
    said += [f"not measured: {one}" for one in measured.left_out]
    return [*said, *measured.notes]


CHANGED = ("cell", "rows/s", "from", "to", "verdict")


def changes(found: Comparison, *, every: bool = False) -> list[tuple[str, ...]]:
    """A row for each change beyond noise, or for `every` cell."""
    return [
        (
            one.name + (" (rebuilt)" if one.rebuilt else ""),
            f"{one.ratio:.3f}x",
            f"{one.low:.3f}" if one.low is not None else "-",
            f"{one.high:.3f}" if one.high is not None else "-",
            _verdict(one),
        )
        for one in found.changes
        if every or one.verdict != "same" or one.memory_mb is not None
    ]


def _verdict(one: Change) -> str:
    parts = [f"{one.verdict}: {one.why}" if one.why else one.verdict]
    if one.memory_mb is not None:
        parts.append(f"{one.memory_mb:+.1f} MB")
    return ", ".join(parts)


def markdown(measured: Measured, against: Comparison | None = None) -> str:
    """The tables and what is said of them, for a page or a pull request."""
    lines = ["# Measured", ""]
    if against is not None:
        lines += [_plain(against.sentence) + ".", ""]
        if against.other_machine:
            lines += [f"**{_plain(against.other_machine)}.**", ""]
        if found := changes(against):
            lines += [*_markdown(CHANGED, found, right=(1, 2, 3)), ""]
    lines += [*_markdown(HEADER, rows(measured), right=FIGURES), ""]
    lines += [f"- {_plain(sentence)}" for sentence in sentences(measured)]
    lines += ["", *_markdown(("", ""), machine(measured)), ""]
    return "\n".join(lines)


def _markdown(
    header: Sequence[str], cells: Sequence[Sequence[str]], right: Sequence[int] = ()
) -> list[str]:
    rule = ["---:" if i in right else "---" for i in range(len(header))]
    texts = [[_plain(cell) for cell in one] for one in cells]
    return ["| " + " | ".join(one) + " |" for one in (list(header), rule, *texts)]


def _plain(text: str) -> str:
    """Nothing in it acts as HTML or ends a cell."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _slowed(measured: Measured) -> str:
    before, after = measured.before.throttled, measured.after.throttled
    return "" if before is None or after is None else f"{after - before} times"


def _pair(before: float | None, after: float | None, unit: str) -> str:
    if before is None or after is None:
        return ""
    return f"{before:.4g} before, {after:.4g} {unit}".rstrip() + " after"


def _number(value: float) -> str:
    """Three figures, and all those before the point: 0.0123, 1.25, 130, 91,610."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")


def _half(figure: Figure) -> str:
    """Half an interval in percent, or "-"."""
    return "-" if figure.low is None else f"{figure.wide:.1%}"
