"""ONNX Runtime sessions of models, also of those whose opset it lacks: in another one."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repo_builder.base.errors import ModelError, Problem
from repo_builder.introspect import opset, runtime, walk

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET = 7
"""The oldest that ONNX Runtime guarantees; onnxruntime.ai/docs/reference/compatibility.html."""

_LOCALE = re.compile(r"Failed to construct locale with name: ?([\w.-]+)")
_WRONG_TYPE = re.compile(
    r"Type \([^)]*\)\) of output arg \((.*?)\) of node .* does not match expected"
)
_KNOWN_DOMAINS = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc"}


@dataclass(frozen=True)
class Conversion:
    """A model that is run in another opset than the file's: the file's model, and why not its own.

    That both are the same model is yet to be shown.
    """

    original: onnx.ModelProto
    opset: int
    reason: str


def session(
    model: onnx.ModelProto, path: Path, *, optimize: bool = True
) -> tuple[Any, onnx.ModelProto, Conversion | None]:
    """A session, the model that it has, and how that came from `model` where it is another.

    External data of `model` lies beside `path`. A model that is too old goes up to the nearest
    opset that ONNX Runtime guarantees, one that it lacks operators of down to the nearest that it
    has. ModelError where neither helps. Types that outputs declare are taken out of `model` where
    ONNX Runtime finds others.
    """
    written = walk.opset(model)
    if 0 < written < OLDEST_OPSET:
        reason = f"opset {written} is older than {OLDEST_OPSET}, the oldest that ONNX Runtime has"
        versions = range(OLDEST_OPSET, OLDEST_OPSET + 1)
    else:
        content = model.SerializeToString()
        try:
            return runtime.session(content, path.parent, optimize=optimize), model, None
        except runtime.errors() as failure:
            if _forget_type(model, failure):
                return session(model, path, optimize=optimize)
            reason = _why_not_loaded(model, failure)
            if not runtime.is_lacking(failure):
                raise refusal(path, reason) from None
        versions = range(written - 1, OLDEST_OPSET - 1, -1)
    _read_weights(model, path.parent)
    for version in versions:
        try:
            other = opset.converted(model, version)
            found = runtime.session(other.SerializeToString(), optimize=optimize)
        except runtime.errors() as failure:
            last = runtime.reason_of(failure)
            if not runtime.is_lacking(failure):
                break
        else:
            return found, other, Conversion(model, version, reason)
    raise refusal(path, f"{reason}; ONNX cannot convert it to opset {version} ({last})")


def _forget_type(model: onnx.ModelProto, failure: Exception) -> bool:
    """Take out the type of the output of `model` that ONNX Runtime says is another."""
    wrong = _WRONG_TYPE.search(str(failure))
    for value in model.graph.output if wrong else ():
        if wrong and value.name == wrong[1] and value.type.tensor_type.elem_type:
            value.type.Clear()
            return True
    return False


def _why_not_loaded(model: onnx.ModelProto, failure: Exception) -> str:
    reason = runtime.reason_of(failure)
    if place := _LOCALE.search(reason):
        return (
            f"this machine lacks the locale {place[1]}, which StringNormalizer needs here and"
            f" where it is served; install it (Debian: package locales, then localedef -i"
            f" {place[1].split('.')[0]} -f UTF-8 {place[1]})"
        )
    functions = {f.domain for f in model.functions}
    custom = sorted({n.domain for n in walk.nodes(model)} - _KNOWN_DOMAINS - functions)
    if custom:
        operators = sorted(
            {f"{n.domain}:{n.op_type}" for n in walk.nodes(model) if n.domain in custom}
        )
        return f"uses operators that ONNX Runtime does not have: {', '.join(operators)} ({reason})"
    return f"ONNX Runtime cannot load it: {reason}"


def _read_weights(model: onnx.ModelProto, folder: Path) -> None:
    """Read the external data of `model` into it."""
    from onnx import external_data_helper

    external_data_helper.load_external_data_for_model(model, os.fspath(folder))


def refusal(path: Path, what: str, problems: list[Problem] | None = None) -> ModelError:
    """The error of the model at `path`: what is wrong, or a headline of several problems."""
    return ModelError(f"{path.name}: {what}", problems or [])
