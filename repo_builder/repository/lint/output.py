"""Findings as text, JSON and SARIF 2.1.0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from repo_builder import __version__
from repo_builder.repository.lint import RULES
from repo_builder.repository.lint.types import Finding

_LEVELS = {"error": "error", "warning": "warning", "note": "note"}


def text(findings: Sequence[Finding]) -> str:
    """One line a finding."""
    return "\n".join(str(finding) for finding in findings)


def summary(findings: Sequence[Finding], models: int) -> str:
    """How many of what: `3 models: 1 error, 2 warnings`."""
    counts = Counter(finding.severity for finding in findings)
    parts = [
        f"{counts[severity]} {severity}{'s' if counts[severity] != 1 else ''}"
        for severity in ("error", "warning", "note")
        if counts[severity]
    ]
    noun = "model" if models == 1 else "models"
    return f"{models} {noun}: {', '.join(parts) or 'nothing to mend'}"


def as_json(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """A list of objects with a finding's fields."""
    return [{k: v for k, v in asdict(f).items() if k != "edit"} for f in findings]


def as_sarif(findings: Sequence[Finding]) -> dict[str, Any]:
    """A SARIF log, for code review tools."""
    rules = [
        {
            "id": rule.id,
            "shortDescription": {"text": rule.summary},
            "help": {"text": f"{rule.summary} Source: {rule.source}"},
            "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        }
        for rule in RULES
    ]
    results = [
        {
            "ruleId": finding.rule,
            "level": _LEVELS[finding.severity],
            "message": {"text": _message(finding)},
            "locations": [
                {
                    "physicalLocation": {
                        "artifactLocation": {"uri": Path(finding.file).as_posix()},
                        "region": {"startLine": max(finding.line, 1)},
                    }
                }
            ],
        }
        for finding in findings
    ]
    driver = {"name": "repo-builder", "version": __version__, "rules": rules}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def _message(finding: Finding) -> str:
    field = f"{finding.field}: " if finding.field else ""
    return f"{field}{finding.what}" + (f"; {finding.fix}" if finding.fix else "")
