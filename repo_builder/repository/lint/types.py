"""What rules find, and how that can be mended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning", "note"]
"""error: Triton refuses the model; warning: it loads and goes wrong; note: worth knowing."""

Judge = Literal["core", "backend", "c++", "sense"]
"""Who refuses: Triton's core; every implementation of the backend; only its C++ one; nobody."""

CONFIG = "config.pbtxt"


@dataclass(frozen=True)
class Edit:
    """A mechanical repair: write `value`, as text protobuf, to `field` of the config."""

    field: str
    value: str


@dataclass(frozen=True)
class Hit:
    """What a rule says of one place. `field` is a path such as `input[0].dims`."""

    what: str
    field: str = ""
    fix: str = ""
    edit: Edit | None = None
    file: str = CONFIG
    line: int = 0


@dataclass(frozen=True)
class Finding:
    """A hit with all that a reader needs: which rule, which model, which line, why, what to do."""

    rule: str
    severity: Severity
    judge: Judge
    source: str
    model: str
    file: str
    line: int
    field: str
    what: str
    fix: str
    edit: Edit | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        fields = f"{self.field}: " if self.field else ""
        fix = f"; {self.fix}" if self.fix else ""
        text = f"{place}: {self.severity} [{self.rule}] {fields}{self.what}{fix}"
        # Names of files may hold line ends, and bytes that are no text.
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
