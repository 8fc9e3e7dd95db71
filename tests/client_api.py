"""Writes docs/client-api.md from the docstrings and signatures of what an application imports.

A docstring's aligned lines, `name   what it is`, describe fields and become a table.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator
from typing import Any

from repo_builder import client
from repo_builder.client.metrics import HELP, Metrics

GROUPS = {
    "Clients": ("EdgeClient", "AsyncEdgeClient", "SyncSequence", "AsyncSequence"),
    "Options": (
        "Servers", "Tls", "Limits", "Retry", "Breaker", "Fallback", "SharedMemory", "Cache",
        "Collector",
    ),
    "What comes back": ("Result", "Model", "Tensor", "Policy", "Sample", "Metrics"),
    "Errors": (
        "ClientError", "InvalidInput", "ModelNotFound", "DeadlineExceeded", "Unavailable",
        "Overloaded", "ServerFailed", "Closed",
    ),
}  # fmt: skip
"""The public names in the page's order."""

INTERNAL = {
    "Servers": {"of"},
    "Model": {"of_config", "batch", "parts", "check_answer"},
    "Tensor": {"fits"},
    "Policy": {"to_json", "from_json"},
    "Metrics": {"count", "answered", "observe", "gauges"},
}
"""Methods that are there for the client itself."""

_HEAD = """\
# The client's API

<!-- Written by `pytest tests/golden --regenerate` from docstrings and signatures. -->

All that an application imports from `repo_builder.client`. What it is for, with examples and what
happens when things go wrong, stands in [the client](client.md).

In signatures, `Inputs` is name -> array (or what `numpy.asarray` takes), or the array alone where
the model has one input. `Addresses` is "host:port", several of these in a list or with commas
between, or `Servers`. `Array` is a numpy array of the type that its `Tensor` says, as nothing is
cast; `Floats` is one of float64, `[n]`.
"""
_MADE = ("EdgeClient", "AsyncEdgeClient")
"""Classes that an application makes and that have no fields: their signature is shown."""

_MADE_ANEW = {"field(default_factory=dict)": "{}", "field(default_factory=time.time)": "now"}
"""Defaults that are made for each object."""

_WIDTH = 100
_FIELD = re.compile(r"^(\w+)  +(\S.*)$")


def page() -> str:
    """The whole page."""
    parts = [_HEAD]
    for title, names in GROUPS.items():
        links = ", ".join(f"[{name}](#{name.lower()})" for name in names)
        parts.append(f"**{title}**: {links}\n")
    for title, names in GROUPS.items():
        parts.append(f"## {title}\n")
        for name in names:
            parts += _of_class(name, getattr(client, name))
    return "\n".join(parts)


def fields(kind: type) -> dict[str, str]:
    """What the docstring says of each field."""
    return _split(_doc(kind))[1]


def members(kind: type) -> dict[str, Any]:
    """The public methods and properties, its own first."""
    hidden = INTERNAL.get(kind.__name__, set()) | shown(kind).keys()
    found: dict[str, Any] = {}
    for base in kind.__mro__[:-1]:
        if base.__module__.startswith("repo_builder."):
            for name, member in vars(base).items():
                public = not name.startswith("_") or name == "__getitem__"
                if public and name not in hidden and inspect.isfunction(function(member)):
                    found.setdefault(name, member)
    return found


def function(member: Any) -> Any:
    """The function of a method, or the one behind a property."""
    return getattr(member, "fget", None) or getattr(member, "func", member)


def _of_class(name: str, kind: type) -> Iterator[str]:
    yield f"### {name}\n"
    if kind.__name__ in _MADE:
        yield _block(f"class {name}", inspect.signature(kind), "")
    before, described, after = _split(_doc(kind))
    yield from (f"{text}\n" for text in before)
    if own := shown(kind):
        rows = [
            f"| `{field}` | {_code(annotation)} | {_code(default)} | {described.get(field, '')} |"
            for field, (annotation, default) in own.items()
        ]
        yield (
            "\n".join(["| field | type | default | what it is |", "|---|---|---|---|", *rows])
            + "\n"
        )
    yield from (f"{text}\n" for text in after)
    if kind is Metrics:
        figures = (f"| `{figure}` | {said} |" for figure, said in HELP.items())
        yield "Names begin with `repo_builder_client_`:\n"
        yield "\n".join(["| figure | what it is |", "|---|---|", *figures]) + "\n"
    for called, member in members(kind).items():
        yield from _of_member(name, called, member)


def _of_member(owner: str, name: str, member: Any) -> Iterator[str]:
    called = function(member)
    signature = inspect.signature(called)
    if name == "__getitem__":
        yield f"#### {owner}[name]\n"
    else:
        yield f"#### {owner}.{name}\n"
        if called is not member:
            yield f"```py\n{name}: {signature.return_annotation}\n```\n"
        else:
            awaited = "async def" if inspect.iscoroutinefunction(called) else "def"
            own = [p for p in signature.parameters.values() if p.name != "self"]
            returned = signature.return_annotation
            yield _block(f"{awaited} {name}", signature.replace(parameters=own), returned)
    before, _, after = _split(_doc(called))
    yield from (f"{text}\n" for text in (*before, *after))


def _block(what: str, signature: inspect.Signature, returned: str) -> str:
    """A signature as a block of code: in one line, or a parameter a line."""
    parameters: list[str] = []
    for one in signature.parameters.values():
        if one.kind is one.KEYWORD_ONLY and "*" not in parameters:
            parameters.append("*")
        default = "" if one.default is one.empty else f" = {one.default!r}"
        parameters.append(f"{one.name}: {one.annotation}{default}")
    arrow = f" -> {returned}" if returned else ""
    parameters = [_quoted(parameter) for parameter in parameters]
    line = f"{what}({', '.join(parameters)}){arrow}"
    if len(line) > _WIDTH:
        inside = "".join(f"    {parameter},\n" for parameter in parameters)
        line = f"{what}(\n{inside}){arrow}"
    return f"```py\n{line}\n```\n"


def shown(kind: type) -> dict[str, tuple[str, str]]:
    """Field -> its type and default as they are written; empty of a class without."""
    if not dataclasses.is_dataclass(kind):
        return {}
    public = {one.name for one in dataclasses.fields(kind) if one.repr}
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(tree, ast.ClassDef)
    found = {}
    for line in tree.body:
        if not isinstance(line, ast.AnnAssign) or not isinstance(line.target, ast.Name):
            continue
        if line.target.id in public:
            default = ast.unparse(line.value) if line.value else ""
            found[line.target.id] = (ast.unparse(line.annotation), _MADE_ANEW.get(default, default))
    return found


def _split(doc: str) -> tuple[list[str], dict[str, str], list[str]]:
    """The paragraphs before the fields, the fields, and the paragraphs behind them."""
    before: list[str] = []
    described: dict[str, str] = {}
    after: list[str] = []
    for paragraph in doc.split("\n\n"):
        lines = paragraph.splitlines()
        if not _FIELD.match(lines[0]):
            (after if described else before).append(" ".join(lines))
            continue
        name = ""
        for line in lines:
            if start := _FIELD.match(line):
                name, described[start[1]] = start[1], start[2]
            else:
                described[name] += " " + line.strip()
    return before, {name: text.replace("|", "\\|") for name, text in described.items()}, after


def _doc(documented: Any) -> str:
    doc = documented.__doc__ or ""
    return inspect.cleandoc(doc)


def _code(words: str) -> str:
    return f"`{_quoted(words)}`".replace("|", "\\|") if words else ""


def _quoted(code: str) -> str:
    """Texts in it in double quotes, as in the source."""
    return code.replace("'", '"')
