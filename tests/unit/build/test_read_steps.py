"""What rows and configs are made from is asked of the store, also where nothing runs."""

from __future__ import annotations

import re
from pathlib import Path

from repo_builder import build
from repo_builder.build import assemble, prepare, proof

STEP = re.compile(r"""entries(?:\.get\(|\[)(?:"([\w-]+)"|(\w+))""")


def test_every_step_that_is_read_is_wanted() -> None:
    """Else the row of a cached build would say less than that of the build before."""
    names = {**vars(assemble), **vars(proof)}
    read = {
        literal or names[constant]
        for path in Path(build.__file__).parent.glob("*.py")
        for literal, constant in STEP.findall(path.read_text(encoding="utf-8"))
        if literal or isinstance(names.get(constant), str)
    }
    assert {"import", "fix-shapes", "simplify", "verify", "warm-up"} <= read
    assert read <= set(prepare._READ)
