"""Sets what a device's sysfs offers, and sees whether it took.

Everything is looked at before anything is changed: that it is there, may be written and takes the
value. Then each is written and read back; where one does not take, all go back to what they were.
A maker's tool (`nvpmodel`, `nvidia-smi`) is run where the tree has it, without a shell.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from repo_builder.base.errors import PowerError, Problem

_TOOL_S = 60.0
_CHOICES = {
    "scaling_governor": "scaling_available_governors",
    "energy_performance_preference": "energy_performance_available_preferences",
}
"""Files that take words, and the files beside them that list which."""


@dataclass(frozen=True)
class Write:
    """A file of sysfs and the text to write; `path` begins at the root of the tree."""

    path: str
    value: str
    what: str


@dataclass(frozen=True)
class Run:
    """A maker's tool: its path, how to set a state and how to ask for the one it is in.

    `state` finds the state in what the tool answers; "" where it tells none.
    """

    tool: str
    what: str
    wanted: str
    set: Callable[[str], Sequence[str]]
    ask: Sequence[str]
    state: Callable[[str], str]


Action = Write | Run


@dataclass
class Applied:
    """What was changed, in words: `what: before -> after`; what took only in part in `notes`."""

    changes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def nvpmodel(name: str, number: int) -> Run:
    """Jetson's tool. `nvpmodel -q` ends with the mode's number in a line of its own."""
    return Run(
        "/usr/sbin/nvpmodel",
        f"power mode {name}",
        str(number),
        lambda mode: ("-m", mode),
        ("-q",),
        lambda said: next(
            (w for w in reversed(said.split("\n")) if w.strip().isdigit()), ""
        ).strip(),
    )


def nvidia_smi(watts: float) -> Run:
    """The limit of all GPUs of a machine; where they differ there is no one state to go back to."""

    def state(said: str) -> str:
        limits = {line.strip() for line in said.splitlines() if line.strip()}
        return limits.pop() if len(limits) == 1 else ""

    return Run(
        "/usr/bin/nvidia-smi",
        "power limit",
        f"{watts:.2f}",
        lambda limit: (f"--power-limit={limit}",),
        ("--query-gpu=power.limit", "--format=csv,noheader,nounits"),
        state,
    )


def apply(actions: Sequence[Action], root: Path = Path("/")) -> Applied:
    """Do all `actions` below `root`, or none. PowerError with all that stands against it.

    Where one fails on the way, those before it are undone, and what could not be is said.
    """
    problems = [problem for action in actions for problem in _checked(action, root)]
    if problems:
        raise PowerError("nothing was changed", problems)
    applied, undo = Applied(), list[tuple[Action, str]]()
    try:
        for action in actions:
            before = _read(action, root)
            undo.append((action, before))
            _set(action, action_value(action), root)
            after = _read(action, root)
            if not _took(action, after, root):
                what = f"{action.what}: asked for {action_value(action)}, reads {after}"
                raise PowerError(f"{what}; {_why(action)}")
            applied.changes.append(f"{action.what}: {before} -> {after}")
            if after != action_value(action):
                applied.notes.append(f"{action.what}: {after} is what the hardware has nearest")
        for action, _ in undo:  # a later one may have changed an earlier one again
            if not _took(action, after := _read(action, root), root):
                what = f"{action.what}: took {action_value(action)}, and then reads {after}"
                raise PowerError(f"{what}; {_why(action)}")
    except (PowerError, KeyboardInterrupt) as failure:
        left = _back(undo, root)
        if isinstance(failure, KeyboardInterrupt):
            if left:
                raise PowerError("interrupted; what did not go back:", left) from None
            raise
        end = "what did not go back:" if left else "all is as it was"
        raise PowerError(f"{failure.message}; {end}", left) from None
    return applied


def action_value(action: Action) -> str:
    """What an action asks for."""
    return action.value if isinstance(action, Write) else action.wanted


def _checked(action: Action, root: Path) -> Iterator[Problem]:
    """What stands against an action before anything is changed."""
    if isinstance(action, Run):
        tool = root / action.tool.lstrip("/")
        if not os.access(tool, os.X_OK):
            yield Problem("is not there", "is this the device?", str(tool), field=action.what)
        elif os.geteuid() != 0 and root == Path("/"):
            yield Problem("needs root", "run it with sudo", str(tool), field=action.what)
        return
    path = root / action.path.lstrip("/")
    if not path.exists():
        fix = "this kernel or device has no such setting"
        yield Problem("is not there", fix, str(path), field=action.what)
        return
    if not os.access(path, os.W_OK):
        yield Problem("may not be written", "run it with sudo", str(path), field=action.what)
    yield from _in_range(action, path)


def _in_range(action: Write, path: Path) -> Iterator[Problem]:
    listed = path.with_name(_CHOICES.get(path.name, "-"))
    if listed.exists() and action.value not in (words := listed.read_text().split()):
        what = f"'{action.value}' is none of its values"
        yield Problem(what, "one of: " + ", ".join(words), str(path), field=action.what)
    for name, below in (
        ("scaling_min_freq", False),
        ("min_freq", False),
        ("cpuinfo_min_freq", False),
        ("cpuinfo_max_freq", True),
        (path.name.replace("power_limit", "max_power"), True),
    ):
        beside = path.with_name(name)
        if not action.value.isdigit() or beside == path or not beside.exists():
            continue
        limit = beside.read_text().strip()
        if not limit.isdigit() or int(limit) == 0:  # 0: the firmware does not say
            continue
        if (int(action.value) > int(limit)) if below else (int(action.value) < int(limit)):
            than = "more" if below else "less"
            what = f"{action.value} is {than} than {name}, {limit}"
            yield Problem(what, "ask for another value", str(path), field=action.what)


def _read(action: Action, root: Path) -> str:
    if isinstance(action, Run):
        said = _call(action.tool, action.ask, root)
        state = action.state(said)
        if not state:
            raise PowerError(f"{action.tool}: told no state: {said.strip()[:80]!r}")
        return state
    path = root / action.path.lstrip("/")
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as failure:
        raise PowerError(f"{path}: {(failure.strerror or 'unreadable').lower()}") from None


def _set(action: Action, value: str, root: Path) -> None:
    if isinstance(action, Run):
        _call(action.tool, action.set(value), root)
        return
    path = root / action.path.lstrip("/")
    try:
        path.write_text(f"{value}\n", encoding="utf-8")
    except OSError as failure:
        why = (failure.strerror or "cannot be written").lower()
        raise PowerError(f"{path}: {value}: {why}") from None


def _took(action: Action, after: str, root: Path) -> bool:
    """Whether what is read back is what was asked, or the nearest step below it."""
    wanted = action_value(action)
    if after == wanted:
        return True
    if isinstance(action, Run) or not (after.isdigit() and wanted.isdigit()):
        try:
            return float(after) == float(wanted)
        except ValueError:
            return False
    return int(after) == _nearest(root / action.path.lstrip("/"), int(wanted))


def _nearest(path: Path, wanted: int) -> int | None:
    """The highest step of the hardware that is not above `wanted`."""
    for name in ("available_frequencies", "scaling_available_frequencies"):
        listed = path.with_name(name)
        if listed.exists():
            steps = [int(word) for word in listed.read_text().split() if word.isdigit()]
            return max((step for step in steps if step <= wanted), default=None)
    return None


def _why(action: Action) -> str:
    if isinstance(action, Run):
        return "it may take effect after a reboot only: run the printed script"
    return "the driver or another service (nvpmodel, tuned, thermald) holds it"


def _back(undo: Sequence[tuple[Action, str]], root: Path) -> list[Problem]:
    """Set all to what it was; what did not go back.

    The last first, and then once more from the first: some settings change others, either way.
    """
    _restored(list(reversed(undo)), root)
    return _restored(undo, root)


def _restored(undo: Sequence[tuple[Action, str]], root: Path) -> list[Problem]:
    left = []
    for action, before in undo:
        try:
            if _read(action, root) == before:
                continue
            _set(action, before, root)
            after = _read(action, root)
        except PowerError as failure:
            left.append(Problem(failure.message, f"set it to {before}", field=action.what))
            continue
        if after != before:
            left.append(Problem(f"reads {after}", f"set it to {before}", field=action.what))
    return left


def _call(tool: str, arguments: Sequence[str], root: Path) -> str:
    command = [str(root / tool.lstrip("/")), *arguments]
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,  # nvpmodel asks whether to reboot
            capture_output=True,
            text=True,
            timeout=_TOOL_S,
            check=False,
        )
    except OSError as failure:
        raise PowerError(f"{command[0]}: {failure.strerror}") from None
    except subprocess.TimeoutExpired:
        raise PowerError(f"{command[0]}: no answer in {_TOOL_S:.0f} s") from None
    said = f"{ended.stdout}\n{ended.stderr}"
    if ended.returncode:
        last = (said.strip().splitlines() or ["no message"])[-1]
        raise PowerError(f"{' '.join(command)}: exit {ended.returncode}: {last[:200]}")
    return said
