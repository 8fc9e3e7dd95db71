"""The machine that builds, in the words of target files."""

from __future__ import annotations

import platform

_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What Linux calls a processor -> what OCI and target files call it."""


def architecture() -> str:
    """amd64, arm64, or the kernel's own word for another."""
    return _NAMES.get(platform.machine(), platform.machine())
