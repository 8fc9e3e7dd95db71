"""What to write to get an extra of this package, where it is installed."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from urllib.parse import unquote, urlsplit

_NAME = "repo-builder"
_PACKAGE = Path(__file__).parents[1]


def pip_install(extra: str) -> str:
    """The `pip install` that adds `extra` the way this package came: checkout, wheel or index.

    A checkout may be installed, editable or not, or only lie on the path.
    """
    came_from, editable = _origin()
    if came_from is None:
        return f"pip install '{_NAME}[{extra}]'"
    place = "." if came_from == Path.cwd() else str(came_from)
    return f"pip install {'-e ' if editable else ''}{_quoted(f'{place}[{extra}]')}"


def _origin() -> tuple[Path | None, bool]:
    """The folder or wheel that was installed, and whether editable; None: from an index."""
    from importlib.metadata import PackageNotFoundError, distribution

    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file():  # it runs from there, however it came onto the path
        return checkout, True
    try:
        text = distribution(_NAME).read_text("direct_url.json")
        record = json.loads(text) if text else {}
    except (PackageNotFoundError, ValueError):
        return None, False
    url = urlsplit(record.get("url", ""))
    path = Path(unquote(url.path))
    return (path, False) if url.scheme == "file" and path.exists() else (None, False)


def _quoted(text: str) -> str:
    return shlex.quote(text) if "'" in text else f"'{text}'"
