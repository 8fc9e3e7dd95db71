"""What README and docs write of the client's names is what the code has."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import client_api
import documents
import pytest

from repo_builder import client

CALLED = {
    "client": client.EdgeClient,
    "metrics": client.Metrics,
    "speech": client.SyncSequence,
    "result": client.Result,
    "answer": client.Result,
    "batch": client.Result,
}
"""What docs call an object of each class."""

_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_MEMBER = re.compile(rf"(?<![\w/.-])({'|'.join((*CALLED, *client.__all__))})\.([a-z]\w*)")
_METHOD = re.compile(r"^\.(\w+)\(")
_FILES = {"py", "md", "yaml", "json"}
_PAGES = [page for page in documents.PAGES if page.name != "client-api.md"]


def kind_of(name: str) -> type:
    found: type = CALLED.get(name) or getattr(client, name)
    return found


def names(kind: type) -> set[str]:
    return {*client_api.members(kind), *client_api.shown(kind)}


def parameters(call: ast.Call) -> set[str] | None:
    """The parameters of what `call` calls; None where it is none of the client's."""
    called: Any = None
    if isinstance(call.func, ast.Name) and call.func.id in client.__all__:
        called = getattr(client, call.func.id)
    elif isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
        kind = CALLED.get(call.func.value.id)
        called = kind and inspect.getattr_static(kind, call.func.attr, None)
    return set(inspect.signature(called).parameters) if called else None


def wrong(code: str) -> list[str]:
    """Names in `code` that the client does not have."""
    found = [
        f"{owner}.{member}"
        for owner, member in _MEMBER.findall(code)
        if member not in names(kind_of(owner)) | _FILES
    ]
    if (method := _METHOD.match(code)) and not any(
        method[1] in names(kind) for kind in CALLED.values()
    ):
        found.append(code)
    try:
        tree = ast.parse(code)
    except SyntaxError:  # a part of a line, or of another language
        return found
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "repo_builder.client":
            found += [one.name for one in node.names if one.name not in client.__all__]
        if isinstance(node, ast.Call) and (known := parameters(node)) is not None:
            found += [f"{one.arg}=" for one in node.keywords if one.arg and one.arg not in known]
    return found


def snippets(page: Path) -> list[str]:
    """Blocks of Python, and code in sentences."""
    text = page.read_text(encoding="utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    python = [block.text for block in documents.blocks(page) if block.language in ("python", "py")]
    return python + _SPAN.findall(prose)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_the_client_has_what_the_page_names(page: Path) -> None:
    assert [name for code in snippets(page) for name in wrong(code)] == []


def test_names_are_found() -> None:
    assert wrong("client.ifner('digits', x)") == ["client.ifner"]
    assert wrong("client.infer('digits', x, timeot=1)") == ["timeot="]
    assert wrong("Fallback(modles={})") == ["modles="]
    assert wrong("Result.score") == ["Result.score"]
    assert wrong("from repo_builder.client import EdgeCleint") == ["EdgeCleint"]
    assert wrong(".promethues()") == [".promethues()"]
    assert wrong("client.infer('digits', x, timeout=1).labels") == []


def test_the_page_of_the_client_has_many() -> None:
    found = snippets(documents.ROOT / "docs" / "client.md")
    members = [name for code in found for name in _MEMBER.findall(code)]
    assert len(members) > 10
