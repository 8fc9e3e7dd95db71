"""Tables in CSV files: a header, then numbers or text."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from repo_builder.base.errors import DataError, Problem, did_you_mean
from repo_builder.data.rows import Array, Rows, digests, encoded, refuse

if TYPE_CHECKING:
    from _csv import Reader

_CHUNK = 4096


def read(
    file: Path,
    inputs: Mapping[str, Sequence[str]],
    types: Mapping[str, str],
    label: str | None,
    label_name: str,
) -> Rows:
    """The rows of `file`: each input has its columns as [n, columns], the label [n].

    An input without columns takes all that nothing else names. `types` are numpy's names of
    types, float32 where not given; `object` is text. DataError with all bad cells, by line.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return _read(csv.reader(stream, strict=True), file, inputs, types, label, label_name)
    except UnicodeDecodeError as failure:
        raise DataError(f"{file}: not UTF-8 text (byte {failure.start}); save as UTF-8") from None
    except csv.Error as failure:
        raise DataError(f"{file}: not CSV: {failure}; quote text with commas") from None
    except OSError as failure:
        raise DataError(f"{file}: {failure.strerror}; check the path") from None


def labels(file: Path) -> dict[str, str]:
    """A table `name,label`: the name of a file -> its label. DataError for another header."""
    names = read(file, {"name": ["name"]}, {"name": "object"}, "label", "label")
    texts = [str(row[0]) for row in names.inputs["name"]]
    numbers = names.labels["label"].tolist()
    said = [names.classes[n] if names.classes else str(n) for n in numbers]
    found: dict[str, str] = {}
    for name, text in zip(texts, said, strict=True):
        if found.setdefault(name, text) != text:
            raise DataError(f"{file}: '{name}' has two labels; keep one")
    return found


def _read(
    lines: Reader,
    file: Path,
    inputs: Mapping[str, Sequence[str]],
    types: Mapping[str, str],
    label: str | None,
    label_name: str,
) -> Rows:
    header: list[str] = next(lines, [])
    columns = _columns(file, header, inputs, label)
    places = {name: [header.index(c) for c in found] for name, found in columns.items()}
    problems: list[Problem] = []
    parts: dict[str, list[Array]] = {name: [] for name in inputs}
    chunk: dict[str, list[list[str | float]]] = {name: [] for name in inputs}
    said: list[str] = []

    def flush() -> None:
        for name, values in chunk.items():
            if values:
                dtype = np.dtype(types.get(name, "float32"))
                parts[name].append(np.array(values, "U" if dtype.kind == "O" else dtype))
                values.clear()

    for cells in lines:
        if not cells:
            continue
        if len(cells) != len(header):
            what = f"{len(cells)} cells, the header has {len(header)}"
            problems.append(Problem(what, "", str(file), lines.line_num))
            continue
        for name, at in places.items():
            dtype = np.dtype(types.get(name, "float32"))
            row: list[str | float] = []
            for place in at:
                value = _cell(cells[place], dtype)
                if isinstance(value, Problem):
                    what = f"'{header[place]}': {value.what}"
                    problems.append(Problem(what, value.fix, str(file), lines.line_num))
                else:
                    row.append(value)
            if len(row) == len(at):
                chunk[name].append(row)
        if label is not None:
            said.append(cells[header.index(label)])
            if said[-1].strip().lower() in ("", "nan", "inf", "-inf"):
                what = f"'{label}': no label"
                problems.append(Problem(what, "write one", str(file), lines.line_num))
        if not problems and len(chunk[next(iter(chunk))]) == _CHUNK:
            flush()
    refuse(str(file), problems)
    flush()
    if not all(parts.values()):
        raise DataError(f"{file}: no rows; write at least one below the header")
    arrays = {name: np.concatenate(found) for name, found in parts.items()}
    numbers, classes = encoded(said) if said else (np.empty(0), ())
    found = {} if label is None else {label_name: numbers}
    return Rows(arrays, found, digests(arrays.values()), classes)


def _columns(
    file: Path, header: Sequence[str], inputs: Mapping[str, Sequence[str]], label: str | None
) -> dict[str, list[str]]:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{file}:1: two columns are named '{twice[0]}'; rename one")
    named = [*(c for found in inputs.values() for c in found), *([label] if label else [])]
    problems = [
        Problem(f"no column '{name}'", did_you_mean(name, header), str(file), 1)
        for name in named
        if name not in header
    ]
    refuse(str(file), problems)
    others = [name for name in header if name not in named]
    columns = {name: list(found) or others for name, found in inputs.items()}
    for name, found in columns.items():
        if not found:
            raise DataError(f"{file}:1: no column is left for input '{name}'; see --input")
    return columns


def _cell(text: str, dtype: np.dtype[Any]) -> str | float | Problem:
    if dtype.kind == "O":
        return text
    if dtype.kind == "b" and text.strip().lower() in ("true", "false"):
        return text.strip().lower() == "true"
    try:
        value = float(text) if dtype.kind == "f" else int(text)
    except ValueError:
        kind = "number" if dtype.kind == "f" else "whole number"
        return Problem(f"{text!r} is no {kind}", "write one, or leave the row out")
    if dtype.kind == "f" and not np.isfinite(value):
        return Problem(f"{text!r} is not finite", "leave the row out")
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        return Problem(f"{text} does not fit {dtype}", "see the model's input")
    return value
