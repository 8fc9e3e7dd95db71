"""`repo-builder tune`, end to end on a genuine Triton: it goes on, writes, and is used."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
import yaml
from workplace import Workplace, repo_builder

from repo_builder.base.errors import MissingExtra
from repo_builder.serve import install


@pytest.fixture(scope="module")
def place(
    tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]
) -> Workplace:
    try:
        install.find()
    except MissingExtra as missing:
        unavailable(str(missing))
    place = Workplace(tmp_path_factory.mktemp("tune"))
    for spec in place.specs.glob("*.yaml"):
        if spec.name != "digits.yaml":
            spec.unlink()
    return place


def tune(place: Workplace, *options: object) -> Any:
    where = ("--store", place.store, "--out", place.out)
    return repo_builder("tune", place.specs / "digits.yaml", *where, *options)


def entry(place: Workplace) -> dict[str, Any]:
    """The tuning of digits@cpu, as `tune` writes it: of this machine, of the model built."""
    from repo_builder.base import machine

    report = place.build("--only", "digits@cpu")
    row = next(row for row in report["rows"] if row["id"] == "digits@cpu")
    return {
        "model": row["digest"],
        "machine": {"cpu": machine.cpu_name(), "cores": machine.cores_allowed()},
        "objective": "the most throughput",
        "serve": {
            "runtime": "onnxruntime", "instances": 1, "threads": 1, "max_batch": 8,
            "delay_us": 300,
        },
    }  # fmt: skip


def test_a_killed_tuning_goes_on_and_says_what_it_found(place: Workplace) -> None:
    asked = ("--maximize", "throughput", "--target", "cpu", "--json")
    ended = tune(place, *asked, "--seconds", 9)
    assert ended.returncode == 0, ended.stderr
    first = json.loads(ended.stdout)
    assert first["outcome"] in ("better", "no difference")
    assert first["serve"]["runtime"] == "onnxruntime"
    assert first["measured_s"] >= 9
    assert first["value"][0] <= first["value"][1] <= first["value"][2]
    looks = len(re.findall(r"look \d+", ended.stderr))
    kept = list((place.store / "tunings").rglob("*.json"))
    assert 0 < len(kept) <= looks
    again = tune(place, *asked, "--seconds", 1)  # its time is up: what was measured decides
    assert again.returncode == 0, again.stderr
    trusted = [json.loads(path.read_text().partition("\n")[2]) for path in kept]
    if not any(one["doubt"] for one in trusted):  # what is in doubt is measured again
        assert "look" not in again.stderr
    assert json.loads(again.stdout)["measured_s"] > 1


def test_a_limit_that_cannot_be_kept_says_the_best_there_is(place: Workplace) -> None:
    before = (place.specs / "tuning.yaml").exists()
    limit = ("--slo", "p50<=10us", "--rate", "30")
    ended = tune(place, *limit, "--target", "cpu", "--seconds", 8)
    assert ended.returncode == 7, ended.stderr
    assert "p50<=10us" in ended.stderr or "p50<=0.01ms" in ended.stderr
    assert re.search(
        r"digits: unmet: ONNX Runtime, .*: [\d.]+ ms \([\d.]+ to [\d.]+\)", ended.stdout
    )
    assert (place.specs / "tuning.yaml").exists() == before


def test_a_build_serves_as_tuned_and_says_so(place: Workplace) -> None:
    file = place.specs / "tuning.yaml"
    file.write_text(yaml.safe_dump({"version": 1, "models": {"digits@cpu": entry(place)}}))
    planned = place.run("plan")
    assert "digits@cpu: served as" in planned.stderr
    report = place.build()
    row = next(row for row in report["rows"] if row["id"] == "digits@cpu")
    assert any("served as tuned for the most throughput" in note for note in row["notes"])
    config = (place.out / "cpu/models/digits/config.pbtxt").read_text()
    assert "max_queue_delay_microseconds: 300" in config
    assert "max_batch_size: 8" in config
    assert re.search(r"instance_group \{[^}]*count: 1", config)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model": "0123456789ab"}, "it is of another model"),
        ({"machine": {"cpu": "another", "cores": 64}}, "it is of another machine"),
    ],
)
def test_a_tuning_of_something_else_is_said_and_not_used(
    place: Workplace, change: dict[str, Any], why: str
) -> None:
    file = place.specs / "tuning.yaml"
    models = {"digits@cpu": {**entry(place), **change}}
    file.write_text(yaml.safe_dump({"version": 1, "models": models}))
    report = place.build()
    row = next(row for row in report["rows"] if row["id"] == "digits@cpu")
    assert any("tuning not used" in said and why in said for said in row["warnings"])
    config = (place.out / "cpu/models/digits/config.pbtxt").read_text()
    assert "max_queue_delay_microseconds: 300" not in config
    file.unlink()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "say what to tune for"),
        (("--slo", "p99<=20"), "has no unit; write us, ms or s"),
        (("--rate", "5"), "--rate needs the limit to keep"),
        (("--maximize", "througput"), "did you mean 'throughput'"),
        (("--maximize", "throughput", "--cores", "1024"), "--cores 1024: this machine has"),
        (("--maximize", "throughput", "--target", "jetson-orin-nx"), "none of its targets is this"),
        (("--maximize", "throughput", "--triton", "x:1"), "name a SPEC, or a --triton"),
    ],
)
def test_what_is_asked_wrongly(place: Workplace, options: tuple[str, ...], said: str) -> None:
    ended = tune(place, *options)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("version: 2\nmodels: {}\n", "must be 1, not 2"),
        ("version: 1\nmodel: {}\n", "did you mean 'models'"),
        ("version: 1\nmodels: {d@cpu: {model: x}}\n", "models.d@cpu.serve: is missing"),
        ("version: [\n", "tuning.yaml:"),
    ],
)
def test_a_damaged_file_is_one_line_for_each_problem(
    place: Workplace, text: str, said: str
) -> None:
    file = place.specs / "tuning.yaml"
    file.write_text(text)
    ended = place.run("plan")
    file.unlink()
    assert ended.returncode == 3
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
