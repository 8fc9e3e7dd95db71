"""Every error a user can meet, with its exit code.

Only the command line turns an error into an exit. An error is one line that says what is wrong,
where, and what to do; `Problem` is that line in parts, and an error may carry many of them.
All errors pickle, because steps run in processes of their own.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong: where it is, what it is, and what to write or do instead."""

    what: str
    fix: str = ""
    file: str = ""
    line: int = 0
    field: str = ""

    def __str__(self) -> str:
        place = self.file + (f":{self.line}" if self.line else "")
        parts = [part for part in (place, self.field, self.what) if part]
        text = ": ".join(parts) + (f"; {self.fix}" if self.fix else "")
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class RepoBuilderError(Exception):
    """Base of all errors that are not bugs; `exit_code` is what the command line returns."""

    exit_code = 1

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message, tuple(problems))
        self.message = message
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join([self.message, *(f"  {problem}" for problem in self.problems)])


class UsageError(RepoBuilderError):
    """The command was given arguments that do not fit together."""

    exit_code = 2


class SpecError(RepoBuilderError):
    """A spec, defaults or target file is wrong; `problems` has all of them."""

    exit_code = 3


class MissingExtra(RepoBuilderError):
    """A package of an optional extra is not installed."""

    exit_code = 4

    def __init__(self, extra: str, needed_for: str) -> None:
        from repo_builder.base import extras

        super().__init__(f"{needed_for} needs an extra: {extras.pip_install(extra)}")
        self.args = (extra, needed_for)


class ModelError(RepoBuilderError):
    """A model file cannot be used: broken, unsupported, or not what the spec says."""

    exit_code = 5


class DataError(RepoBuilderError):
    """Calibration or evaluation data cannot be used."""

    exit_code = 5


class StepError(RepoBuilderError):
    """A step failed in its own process: crash, lack of memory, time limit, tool failure."""

    exit_code = 6


class BuildFailed(RepoBuilderError):
    """At least one model@target failed; the others were built."""

    exit_code = 6


class GateFailed(RepoBuilderError):
    """A model was built and does not meet its gates."""

    exit_code = 7


class StoreError(RepoBuilderError):
    """The store cannot be read or written."""

    exit_code = 8


class OutputError(RepoBuilderError):
    """The output folder cannot be written, or holds what we did not put there."""

    exit_code = 9


class LintFailed(RepoBuilderError):
    """A Triton repository breaks a rule that Triton enforces."""

    exit_code = 10


class ServeError(RepoBuilderError):
    """Triton could not be found, started, or kept alive."""

    exit_code = 11


class InferError(RepoBuilderError):
    """A request could not be made or was refused."""

    exit_code = 12


class ImageError(RepoBuilderError):
    """An image could not be built, moved or read: engine, registry, disk, or base image."""

    exit_code = 13


class TrustError(RepoBuilderError):
    """An image or a repository is not what was signed, or is signed by nobody who is trusted."""

    exit_code = 14


class DeltaError(TrustError):
    """A delta is damaged or hostile, or its base or result is not what it should be."""


class PreflightFailed(RepoBuilderError):
    """A TensorRT plan does not fit the device that shall load it."""

    exit_code = 15


class PowerError(RepoBuilderError):
    """A device did not take a power setting; `problems` has what stands against it."""

    exit_code = 16


def counted(kind: str, names: Sequence[str]) -> str:
    """Nodes of one kind in words, by their names in the graph: `Erf (2 nodes, first 'gelu')`."""
    nodes = "1 node" if len(names) == 1 else f"{len(names)} nodes"
    return f"{kind} ({nodes}, first '{names[0]}')"


def disk_fix(failure: OSError) -> str:
    """What a user can do about a disk that refuses."""
    if failure.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space"
    if failure.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "make it writable"
    if failure.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY):
        return "move what is there away"
    return "check the disk"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint such as "did you mean 'targets'?", or the known words where nothing is close."""
    choices = sorted(known)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return "one of: " + ", ".join(choices) if choices else ""
