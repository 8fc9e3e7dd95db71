"""Reads Triton's log: what it is loading, and its own words for what went wrong."""

from __future__ import annotations

import re
from pathlib import Path

# "E1124 05:48:10.270503 5230 model_lifecycle.cc:642] message", the format of --log-format default.
_LINE = re.compile(r'^([IWEF])\d{4} [\d:.]+ +\d+ ([\w.]+):\d+\] *"?(.*?)"?$')
# Errors that come from below Triton's logger: its last words, and protobuf's.
_PLAIN = re.compile(r"^(?:error: |\[libprotobuf ERROR \S+\] )(.*)$")
# A Python stub that could not be started, in the words of the shell or of the loader. Triton waits
# for it for ever.
_NO_STUB = re.compile(
    r"^(?:\S*/)?(?:ba|da)?sh: (?!warning)|: error while loading shared libraries: "
)
_FAILED_MODEL = re.compile(r"^failed to load '(.+?)' version \d+: (.*)$")
# Where a Python-based backend raised; for its developers.
_TRACE = re.compile(r"\\n\\nAt:\\n.*|\bTritonModelException: ")
# Said on every start without a GPU, and what the line on the failed model says again.
_NOISE = re.compile(
    r"CudaDriverHelper has not been initialized|ERROR: Failed to create instance"
    r"|unable to create stream for \S+: CUDA driver version is insufficient"
)
_LAST_WORDS = "creating server: "


class LogReader:
    """Reads the whole lines that were added to a log since the last call."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def new_lines(self) -> list[str]:
        """The lines written since the last call, without the one still being written."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        return whole.decode(errors="replace").splitlines()


def failures(text: str) -> list[str]:
    """The reasons of a failure, in Triton's own words: `model: reason` where a model failed.

    Falls back to the last lines of the log where Triton logged no error (a crash).
    """
    found: list[str] = []
    lines = text.splitlines()
    for line in lines:
        match, plain = _LINE.match(line), _PLAIN.match(line)
        if match and match[1] in "EF" and not _NOISE.match(match[3]):
            reason = " ".join(_TRACE.sub("", match[3]).replace(r"\n", " ").split())
            found.append(_FAILED_MODEL.sub(r"\1: \2", reason))
        elif plain and not (found and plain[1].startswith(_LAST_WORDS)):
            found.append(plain[1])
        elif _NO_STUB.search(line):
            found.append(line)
    return list(dict.fromkeys(found)) or [line for line in lines if line.strip()][-5:]


def no_stub(line: str) -> bool:
    """Whether this line of the log says that a Python stub could not be started."""
    return bool(_NO_STUB.search(line))


def event(line: str) -> str:
    """What a user wants to see of a log line: loads, warnings, errors; '' for all else."""
    match = _LINE.match(line)
    if not match or _NOISE.match(match[3]):
        return ""
    level, source, message = match.groups()
    if level in "EF" or (level == "W" and source.startswith(("model", "python", "backend"))):
        return message
    if source == "model_lifecycle.cc" and message.startswith(("loading", "successfully")):
        return message
    return ""
