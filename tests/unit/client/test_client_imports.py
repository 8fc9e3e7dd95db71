"""What the client imports."""

from __future__ import annotations

import subprocess
import sys


def test_the_client_stands_alone():
    code = """
import sys
import repo_builder.client
from repo_builder.client import EdgeClient
EdgeClient("localhost:1").close()
others = [m for m in sys.modules if m.startswith("repo_builder.") and ".client" not in m]
late = {"local.cache", "local.spool", "calls.background", "calls.concurrent"}
heavy = {"sqlite3", "onnx", "PIL", "scipy", "pydantic", "click"}
heavy = (heavy | {f"repo_builder.client.{module}" for module in late}) & set(sys.modules)
assert not others and not heavy, (others, heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr
