"""ONNX Runtime on the CPU: a session, and what it says when it fails."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any


def session(source: bytes | str, folder: Path | None = None, *, optimize: bool = True) -> Any:
    """A session of a model, given as bytes or as a path; its external data lies in `folder`.

    Without `optimize` the graph runs as it is written.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if folder is not None:
        entry = "session.model_external_initializers_file_folder_path"
        options.add_session_config_entry(entry, os.fspath(folder))
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def is_lacking(failure: BaseException) -> bool:
    """Whether ONNX Runtime has no kernel for an operator of the model, in its opset."""
    from onnxruntime.capi.onnxruntime_pybind11_state import NotImplemented as Lacking

    return isinstance(failure, Lacking)


def errors() -> tuple[type[Exception], ...]:
    """The exceptions that ONNX Runtime raises; they have no base class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = [value for value in vars(state).values() if isinstance(value, type)]
    return (*(e for e in found if issubclass(e, Exception)), RuntimeError, ValueError)


_OUT_OF_MEMORY = ("bad_alloc", "bad allocation", "failed to allocate memory", "out of memory")


def is_out_of_memory(failure: BaseException) -> bool:
    """Whether an exception, Python's or a C++ runtime's, means lack of memory."""
    text = str(failure).lower()
    return isinstance(failure, MemoryError) or any(sign in text for sign in _OUT_OF_MEMORY)


_SOURCE_PLACE = re.compile(r"[\w/.-]*\.(?:cc|h|cpp|hpp):\d+:? ?")
_NOISE = re.compile(r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : |Load model from \S+ failed: ?")
_SAYS_NOTHING = re.compile(
    r"(Exception from|FrontEnd API failed with|To facilitate the conversion|Summary:|Traceback )"
    r"|(Error has occurred|Exception) (during|happened)[^:]*:$"
    r"|Model wasn't fully converted\. *(Failed operations detailed log:)?$"
    r"|-- Conversion is failed for|-- \S+ with a message:$"
    r"|\[ONNX Frontend\] Conversion failed for \S+$"
)
_CHECK = re.compile(r"Check '(?P<condition>.*)' failed at ?")
_OF_NODE = re.compile(
    r"While validating (?:ONNX )?node '(?:<Node\((?P<op>\w+)\): )?(?P<name>[^'>]*)>?':?"
)
_RUNNING = re.compile(
    r"Non-zero status code returned while running (?P<op>\w+) node\. Name:'(?P<name>[^']*)' "
    r"Status Message: "
)
_MOST = 300
_LINES = 3


def reason_of(failure: BaseException) -> str:
    """Why a runtime failed, in one line of at most 300 characters.

    Source positions, C++ signatures, paths and lines that say nothing (OpenVINO's "Exception from",
    "Check 'false' failed at") are left out; what is left of the first three lines is joined.
    """
    text = str(failure).strip() or type(failure).__name__
    lines = text.splitlines()
    said = [line for raw in lines if (line := _told(raw))]
    if not said:
        failed = [found["condition"] for raw in lines if (found := _CHECK.search(raw))]
        said = [f"its check '{condition}' failed" for condition in failed[-1:]] or [lines[0]]
    line = "; ".join(part.rstrip(" ;") for part in dict.fromkeys(said[:_LINES]))
    return line if len(line) <= _MOST else line[: _MOST - 1] + "…"


def _told(raw: str) -> str:
    """What one line of a failure says; "" where it only says where in the source it was."""
    line = _NOISE.sub("", raw.strip())
    if not line or _SAYS_NOTHING.match(line):
        return ""
    line = _CHECK.sub("", line).removeprefix("-- ")
    while place := _SOURCE_PLACE.search(line):
        line = line[: place.start()] + _after_signature(line[place.end() :])
    line = _OF_NODE.sub(_node, line)
    return _RUNNING.sub(lambda found: f"{_node(found)}: ", line).strip()


def _node(found: re.Match[str]) -> str:
    op = f"{found['op']} " if found["op"] else ""
    return f"{op}node '{found['name']}'" if found["name"] else f"a {op}node"


def _after_signature(text: str) -> str:
    """What follows the C++ signature that `text` starts with; all of it where there is none."""
    start = text.find("(")
    if start < 0 or not re.fullmatch(r"[\w:<>,*& ~]+", text[:start]):
        return text
    depth = 0
    for index in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return text[index + 1 :].removeprefix(" const").lstrip(" :")
    return text
