"""that a config names: can it be opened, and does it have what is looked for?"""

from __future__ import annotations

from pathlib import Path

_ELF = b"\x7fELF"


def problem(name: str, symbol: str = "") -> str:
    """Why the library `name` cannot be loaded; "" where nothing speaks against it.

    A name without a folder is looked for by the system's loader, but lint has only the file system:
    it takes it as relative, as everything else. `symbol` is a function that must be in it.
    """
    path = Path(name)
    if not name or not path.is_file():
        return f"there is no library '{name}'"
    content = path.read_bytes()
    if not content.startswith(_ELF):
        return f"'{name}' is no shared library"
    if symbol and symbol.encode() not in content:
        return f"'{name}' has no function {symbol}"
    return ""
