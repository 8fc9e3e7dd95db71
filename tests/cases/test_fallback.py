"""`digits` served as the edge, `digits-large` as the cloud: as built, through the client."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from test_build import SPECS, Workplace
from triton_models import StartTriton

from repo_builder.cli import cli
from repo_builder.client import EdgeClient
from repo_builder.client.models.confidence import Policy
from repo_builder.steps import _confidence as confidence

EDGE, CLOUD = "digits@cpu", "digits-large@cpu"


class Fleet:
    """The built edge and cloud, and where each is served."""

    def __init__(self, place: Workplace, start: StartTriton) -> None:
        self.out = {}
        for name in (EDGE, CLOUD):
            place.out = place.folder / name
            place.build("--only", name)
            self.out[name] = place.out
        self.edge = start(self.out[EDGE] / "cpu").grpc_url
        self.cloud = start(self.out[CLOUD] / "cpu").grpc_url
        self.report = json.loads((self.out[EDGE] / "report.json").read_text())["rows"][0]
        manifest = json.loads((self.out[EDGE] / "cpu/manifest.json").read_text())
        self.record: dict[str, Any] = manifest["models"]["digits"]["confidence"]


@pytest.fixture(scope="module")
def fleet(module_triton: StartTriton, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return Fleet(Workplace(tmp_path_factory.mktemp("fleet")), module_triton)


@pytest.fixture(scope="module")
def data() -> tuple[Any, Any]:
    with np.load(SPECS / "digits/evaluation.npz") as stored:
        return stored["image"], stored["label"]


def test_manifest_config_and_report_say_the_same_policy(fleet: Fleet) -> None:
    with EdgeClient(fleet.edge) as client:
        served = client.describe("digits").policy
    assert served == Policy.from_json(json.dumps(fleet.record))
    assert served.cloud_model == "digits-large"
    reported = fleet.report["confidence"]
    assert reported["calibration"] == fleet.record["calibration"]
    assert reported["chosen"]["threshold"] == served.threshold
    assert reported["chosen"]["coverage"] == served.coverage
    assert served.digest.startswith(fleet.report["digest"])
    page = (fleet.out[EDGE] / "report.html").read_text()
    assert "Edge or cloud" in page
    assert "<svg" in page


def test_the_unsure_rows_go_to_the_cloud_and_it_pays(fleet: Fleet, data: tuple[Any, Any]) -> None:
    images, labels = data
    parts = [images[i : i + 16] for i in range(0, len(images), 16)]
    with EdgeClient(fleet.edge) as alone, EdgeClient(fleet.edge, fleet.cloud) as client:
        policy = client.describe("digits").policy
        edge = np.concatenate([r["logits"] for r in alone.infer_many("digits", parts)])
        together = client.infer_many("digits", parts)
    assert policy is not None
    answers = np.concatenate([r["logits"] for r in together]).argmax(axis=1)
    sources = np.array([source for r in together for source in r.sources])
    sure = policy.sure(policy.scores({"logits": edge}))
    assert set(sources) == {"edge", "cloud"}
    np.testing.assert_array_equal(sources == "edge", sure)
    # What the build saw is what is served: the tested rows give the reported figures.
    _, tested = confidence.split(len(labels))
    reported = fleet.report["confidence"]
    assert sure[tested].mean() == pytest.approx(reported["chosen"]["coverage"], abs=0.01)
    wrong = answers != labels
    assert wrong[tested].mean() == pytest.approx(reported["chosen"]["total_error"], abs=0.005)
    assert wrong[sure].mean() <= policy.max_error
    assert wrong.mean() < (edge.argmax(axis=1) != labels).mean()


def test_infer_shows_who_answered_and_how_sure_the_edge_was(
    fleet: Fleet, data: tuple[Any, Any], tmp_path: Path
) -> None:
    images, _ = data
    with EdgeClient(fleet.edge) as client:
        result = client.infer("digits", images[:16])
        assert result.policy is not None
        sure = result.policy.sure(result.confidence)
    rows = [int(np.flatnonzero(sure)[0]), int(np.flatnonzero(~sure)[0])]
    np.save(tmp_path / "two.npy", images[rows])
    words = ["infer", "digits", "--input", str(tmp_path / "two.npy"), "--url", fleet.edge]

    def ran(*more: str) -> list[str]:
        ended = CliRunner().invoke(cli, [*words, *more])
        assert ended.exit_code == 0, ended.output
        return ended.stdout.splitlines()

    alone, asked = ran()[-3:], ran("--cloud", fleet.cloud)[-3:]
    assert alone[0] == asked[0] == "confidence (max_probability)"
    assert alone[1].endswith(" edge")
    assert alone[2].endswith(" edge, not sure")
    assert asked[1].endswith(" edge")
    assert asked[2].endswith(" cloud")
    answer = json.loads("\n".join(ran("--cloud", fleet.cloud, "--json")))
    assert answer["sources"] == ["edge", "cloud"]
    assert answer["confidence"] == pytest.approx(result.confidence[rows].tolist(), rel=1e-3)


def test_too_few_labels_are_a_warning_of_the_build(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    place.edit("digits.yaml", "max_error: 0.02", "max_error: 0.001")
    ended = place.run("build", "--only", EDGE)
    assert ended.returncode == 0, ended.stderr
    assert "warning: digits@cpu: 600 samples are too few" in ended.stderr
    assert "it takes 2995 sure ones" in ended.stderr
    (row, *_) = json.loads((place.out / "report.json").read_text())["rows"]
    tuned, tested = row["confidence"]["tuned"], row["confidence"]["tested"]
    enough = math.ceil(2995 * (tuned + tested) / tested)  # the table says how many are
    assert re.search(rf"digits@cpu .* 0%, {enough} labels ", ended.stdout)
    manifest = json.loads((place.out / "cpu/manifest.json").read_text())
    assert manifest["models"]["digits"]["confidence"]["threshold"] is None
