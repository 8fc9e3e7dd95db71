"""One model takes no others down: an exception that nobody foresaw is its own row's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from repo_builder.build import publish, report
from repo_builder.build.report import Report
from repo_builder.build.report.types import report_of
from repo_builder.build.request import Request
from repo_builder.plan import Plan
from repo_builder.run.execute import Outcome
from repo_builder.run.store import Store
from tests.unit.build.test_report import ROWS


def test_an_unforeseen_exception_is_one_row_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    variants = [_variant("good@cpu"), _variant("bad@cpu"), _variant("other@cpu")]

    def assemble(variant: Any, *_: object) -> Any:
        if variant.spec.id == "bad@cpu":
            raise KeyError("n")
        return ROWS[0], None

    monkeypatch.setattr(publish, "assemble", assemble)
    plan = Plan({}, tuple(variants))
    request = Request((), tmp_path / "out", tmp_path / "store")
    outcome = Outcome({}, {}, frozenset())
    rows, repositories = publish.publish_good(request, plan, outcome, store, {})
    assert [row.status for row in rows] == ["built", "failed", "built"]
    assert "KeyError: 'n'; this is a bug in repo-builder" in rows[1].reason
    log = Path(rows[1].reason.rpartition(" ")[2])
    assert "Traceback" in log.read_text()
    assert repositories == {}


def _variant(name: str) -> Any:
    from types import SimpleNamespace

    model, target = name.split("@")
    optimize = SimpleNamespace(scheme="fp32")
    spec = SimpleNamespace(id=name, name=model, target=target, version="1.0.0", optimize=optimize)
    return SimpleNamespace(spec=spec, target=None, steps={})


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = Report(ROWS, {"cpu": {"folder": "x", "changed": True}}, 1.5)
    report.write(written, tmp_path)
    assert report.read(tmp_path) == written
    assert report_of({**written.as_json(), "new": 1}) == written


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"rows": 1}', '{"rows": [{}]}', "\0"])
def test_what_is_no_report_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    assert report.read(tmp_path) is None
    report.write(Report(ROWS, {}, 1.0), tmp_path, whole=False)
    assert report.read(tmp_path) == Report(ROWS, {}, 1.0)
