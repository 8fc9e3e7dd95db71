"""Deltas between versions of a model, against zstd, xdelta3, bsdiff4 and hdiffpatch.

    python benchmarks/deltas.py FOLDER

Rows: 200 MB of float32 with one layer changed, with 5 % of the weights changed and with all of
them nudged; two CNNs (2 and 20 million weights) trained on scikit-learn's digits and fine-tuned for
an epoch on other images, as fp32, fp16, and as the int8 artifacts that a build makes of them. What
was made lies in FOLDER and is not made again. Each contender runs in a process of its own: bytes,
and seconds of all processors. A contender that would take more than a few minutes or gigabytes for
a file is left out there (-). Writes FOLDER/deltas.json, deltas.md and deltas.svg. Needs the
commands zstd and xdelta3. About 25 minutes on two cores.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from deltas_models import SIZES, TUNED, artifacts, near

from repo_builder.base.bars import Bar, bars
from repo_builder.release.delta import numbers
from repo_builder.release.delta.layout import Kind
from repo_builder.release.delta.parsers import tensors

SLOW = 24 << 20
"""Above this bsdiff4 and hdiffpatch are left out: minutes, and 17 bytes of memory for each byte."""

BSDIFF = """
import bsdiff4, sys, time
begin = time.process_time()
bsdiff4.file_diff(*sys.argv[1:])
print(time.process_time() - begin)
"""
HDIFF = """
import hdiffpatch, sys, time
begin = time.process_time()
from pathlib import Path
old, new, out = map(Path, sys.argv[1:])
out.write_bytes(hdiffpatch.diff(old.read_bytes(), new.read_bytes(), compression="zstd"))
print(time.process_time() - begin)
"""
OURS = """
import sys, time
from pathlib import Path
from repo_builder.release.delta import make
old, new, out, *described = map(Path, sys.argv[1:])
begin = time.process_time()
made = make(old, new, out, descriptions=tuple(described) or None, worth=1e9)
print(time.process_time() - begin)
"""
APPLY = """
import json, sys, time
from repo_builder.release.delta import apply, read_header
from repo_builder.release.delta.zstd import library
library()
def peak():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmHWM"))
delta, base, result = sys.argv[1:]
header = read_header(open(delta, "rb"))
before, begin = peak(), time.process_time()
with open(delta, "rb") as d, open(base, "rb") as b, open(result, "w+b") as out:
    apply(d, b, out, header.digest, header.length)
print(json.dumps([time.process_time() - begin, (peak() - before) / 1024]))
"""
COLOURS = {"ours": "#1f77b4", "best of the others": "#bbbbbb"}


@dataclass(frozen=True)
class Pair:
    """Two versions of a file; `described`: what tells where its numbers lie."""

    name: str
    old: Path
    new: Path
    described: tuple[Path, Path] | None = None


def synthetic(folder: Path) -> list[Pair]:
    """200 MB of float32: weights of deviation 0.05, changes of deviation 1e-4."""
    names = ("old", "layer", "scattered", "nudged")
    files = {name: folder / f"200mb-{name}.bin" for name in names}
    if not files["nudged"].exists():
        r = np.random.default_rng(0)
        old = (r.normal(size=50_000_000) * 0.05).astype(np.float32)
        change = (r.normal(size=len(old)) * 1e-4).astype(np.float32)
        layer = np.zeros(len(old), bool)
        layer[20_000_000:22_500_000] = True
        scattered = r.random(len(old)) < 0.05
        old.tofile(files["old"])
        for name, where in (("layer", layer), ("scattered", scattered), ("nudged", True)):
            np.where(where, old + change, old).tofile(files[name])
    titles = ("one layer of 5 %", "5 % scattered", "all nudged")
    return [
        Pair(f"200 MB fp32, {title}", files["old"], files[name])
        for name, title in zip(names[1:], titles, strict=True)
    ]


def pairs(folder: Path) -> Iterator[Pair]:
    """Every artifact of every fine-tuned CNN, from the one it started from; then synthetic ones."""
    for size in SIZES:
        before = artifacts(folder, size, "v1")
        for how in TUNED:
            after = artifacts(folder, size, how)
            for kind, file in after.items():
                described = None
                if file.suffix == ".bin" and file.with_suffix(".xml").exists():
                    described = before[kind].with_suffix(".xml"), file.with_suffix(".xml")
                yield Pair(f"{size}, {how}, {kind}", before[kind], file, described)
        if size == "2 M":
            yield from synthetic(folder)


def ran(command: list[Any], out: Path) -> dict[str, Any]:
    """Bytes of `out` and CPU seconds of a command that writes it; its own figure, if it says one.

    So that nobody pays for starting Python.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    said = json.loads(done.stdout or str(cpu))
    return {"bytes": out.stat().st_size, "cpu": said}


def measured(pair: Pair, folder: Path) -> dict[str, Any]:
    """One row: every contender, ours made and applied, and the bound for floats."""
    out = folder / "out.tmp"
    old, new, python = pair.old, pair.new, sys.executable
    quiet = ["zstd", "-qf", "-19", "--long=28", "--patch-from"]
    commands: dict[str, list[Any]] = {
        "zstd": [*quiet, old, new, "-o", out],
        "xdelta3": ["xdelta3", "-e", "-9", "-f", "-B", "268435456", "-s", old, new, out],
    }
    if new.stat().st_size <= SLOW:
        commands["bsdiff4"] = [python, "-c", BSDIFF, old, new, out]
        commands["hdiffpatch"] = [python, "-c", HDIFF, old, new, out]
    row: dict[str, Any] = {"name": pair.name, "bytes": new.stat().st_size}
    row["others"] = {name: ran(command, out) for name, command in commands.items()}
    row["ours"] = ran([python, "-c", OURS, old, new, out, *(pair.described or ())], out)
    result = folder / "result.tmp"
    applied = ran([python, "-c", APPLY, out, old, result], result)
    assert result.read_bytes() == new.read_bytes()
    row["apply_cpu"], row["apply_mb"] = applied["cpu"]
    row["bound"] = bound(pair)
    return row


def bound(pair: Pair) -> float | None:
    """Bytes: entropy of the number of significant bits of each difference, given the old float's
    exponent, and the bits below the leading one raw. None where most of the file is no float."""
    a, b = pair.old.read_bytes(), pair.new.read_bytes()
    if pair.old.name.startswith("200mb"):
        spans = [(0, 0, len(b), Kind.ADD_F4)]
    else:
        found = zip(tensors(a), tensors(b), strict=True)
        kinds = {"f4": Kind.ADD_F4, "f2": Kind.ADD_F2}
        spans = [
            (x.offset, y.offset, y.length, kinds[y.type])
            for x, y in found
            if y.type in kinds and x.length == y.length
        ]
    if sum(span[2] for span in spans) < len(b) / 2:
        return None
    bits = 0.0
    for i, j, length, kind in spans:
        for at in range(0, length, 1 << 24):
            size = min(1 << 24, length - at)
            x = numbers.unsigned(a[i + at : i + at + size], kind)
            y = numbers.unsigned(b[j + at : j + at + size], kind)
            change = numbers.differences(x, y, kind)
            significant = np.frexp(change.astype(np.float64))[1]
            groups = numbers.exponents(x, kind)
            assert groups is not None
            counts = np.bincount(groups * np.int64(40) + significant, minlength=256 * 40)
            table = counts.reshape(256, 40)
            share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
            bits -= float((table * np.log2(np.where(share > 0, share, 1))).sum())
            bits += float(np.maximum(significant - 1, 0).sum())
    return bits / 8


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as Markdown: percent of the new file, and CPU seconds."""
    names = ("zstd", "xdelta3", "bsdiff4", "hdiffpatch")
    head = ["file", "MB", *names, "**ours**", "bound", "x best", "made in (bsdiff4)", "applied in"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        best = min(other["bytes"] for other in row["others"].values())
        percent = [
            f"{100 * row['others'][n]['bytes'] / row['bytes']:.2f}" if n in row["others"] else "-"
            for n in names
        ]
        slow = row["others"].get("bsdiff4")
        cells = [
            row["name"],
            f"{row['bytes'] / 1e6:.1f}",
            *percent,
            f"**{100 * row['ours']['bytes'] / row['bytes']:.2f}**",
            f"{100 * row['bound'] / row['bytes']:.2f}" if row["bound"] else "",
            f"{row['ours']['bytes'] / best:.2f}",
            f"{row['ours']['cpu']:.2f} s" + (f" ({slow['cpu']:.1f} s)" if slow else ""),
            f"{row['apply_cpu']:.2f} s, {row['apply_mb']:.0f} MB",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def plot(rows: list[dict[str, Any]]) -> str:
    """Two bars for each row but those of the large net: ours, and the best of the others."""
    drawn = []
    for row in rows:
        if row["name"].startswith("20 M"):
            continue
        best, name = min((other["bytes"], n) for n, other in row["others"].items())
        for kind, size, said in (
            ("ours", row["ours"]["bytes"], row["name"]),
            ("best of the others", best, name),
        ):
            part = 100 * size / row["bytes"]
            drawn.append(Bar(said, part, f"{part:.2f} %", kind))
    return bars(
        "Deltas, in percent of the new file",
        "Ours; below it the smallest of zstd --patch-from -19, xdelta3 -9, bsdiff4, hdiffpatch.",
        drawn,
        COLOURS,
    )


def brought_near(folder: Path, rows: dict[str, Any]) -> str:
    """The fp32 rows once more, built with `release: {near: ...}`, as Markdown."""
    lines = ["| fp32 | lossless % | near % | the report says |", "|---|---|---|---|"]
    for size in SIZES:
        for how in TUNED:
            base, file, said = near(folder, size, how)
            out = folder / "out.tmp"
            ran([sys.executable, "-c", OURS, base, file, out], out)
            part = 100 * out.stat().st_size / file.stat().st_size
            row = rows[f"{size}, {how}, fp32"]
            lossless = 100 * row["ours"]["bytes"] / row["bytes"]
            lines.append(f"| {size}, {how} | {lossless:.2f} | **{part:.2f}** | {said} |")
    return "\n".join([*lines, ""])


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    kept = folder / "deltas.json"
    rows: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    for pair in pairs(folder):
        if pair.name not in rows:
            rows[pair.name] = measured(pair, folder)
            print(pair.name, rows[pair.name], flush=True)
            kept.write_text(json.dumps(rows, indent=1))
    text = table(list(rows.values())) + "\n" + brought_near(folder, rows)
    (folder / "deltas.md").write_text(text)
    (folder / "deltas.svg").write_text(plot(list(rows.values())))
    print((folder / "deltas.md").read_text())


if __name__ == "__main__":
    main()
