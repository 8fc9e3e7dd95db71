"""What user's code and PyTorch throw, in one line with the place in the user's files."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

from repo_builder.base.errors import ModelError

_MOST = 240
_GPU = re.compile(r"\b(CUDA|NVIDIA|XPU|MPS|HIP|Torch not compiled with|cuda:\d+)\b")


def failed(who: str, did: str, failure: BaseException, folder: Path, fix: str = "") -> ModelError:
    """The error of code in `folder` that threw `failure`: who did what, why, where, what to do."""
    if _GPU.search(str(failure)):
        did, fix = "wants a GPU", "make the net on the CPU, where it is exported"
    reason = f"{reason_of(failure)}{where(failure, folder)}"
    return ModelError(f"{who} {did}: {reason}{f'; {fix}' if fix else ''}")


def reason_of(failure: BaseException) -> str:
    """The kind of a failure and the first line of what it says."""
    said = next((line.strip() for line in str(failure).splitlines() if line.strip()), "")
    text = f"{type(failure).__name__}: {said}" if said else type(failure).__name__
    text = text.rstrip(" .")
    return text if len(text) <= _MOST else f"{text[: _MOST - 1]}…"


def where(failure: BaseException, folder: Path) -> str:
    """The innermost line of code in `folder` that led to a failure: ` (nets.py, line 2)`, or ""."""
    if isinstance(failure, SyntaxError) and failure.filename:
        file = Path(failure.filename)
        if file.is_relative_to(folder):
            return f" ({file.relative_to(folder).as_posix()}, line {failure.lineno})"
    frames = [
        (Path(frame.filename).relative_to(folder).as_posix(), frame.lineno)
        for one in _chain(failure)
        for frame in traceback.extract_tb(one.__traceback__)
        if Path(frame.filename).is_relative_to(folder)
    ]
    return f" ({frames[-1][0]}, line {frames[-1][1]})" if frames else ""


def _chain(failure: BaseException) -> list[BaseException]:
    """A failure and what led to it, the last first."""
    chain: list[BaseException] = []
    one: BaseException | None = failure
    while one is not None and one not in chain:
        chain.append(one)
        one = one.__cause__ or one.__context__
    return chain


def root(failure: BaseException) -> BaseException:
    """What a failure began with."""
    return _chain(failure)[-1]
