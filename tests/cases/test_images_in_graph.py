"""`preprocess: {place: graph}` end to end: built, proven, served by genuine Triton, and asked."""

from __future__ import annotations

import asyncio
import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from test_pipelines import Array, ask, files, png
from triton_models import StartTriton
from tritonclient.grpc import InferenceServerClient
from tritonclient.utils import InferenceServerException
from workplace import SPECS, Workplace, repo_builder

from repo_builder.base.errors import SpecError
from repo_builder.cli import cli
from repo_builder.client import AsyncEdgeClient, EdgeClient, InvalidInput

GRAPH = "preprocess: {input: images, size: [96, 96], place: graph"

NMS = (
    "postprocess: {nms: {boxes: boxes, scores: scores, iou_threshold: 0.5, score_threshold: 0.3, "
    "max_boxes: 20}, keep: [boxes, scores]}"
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """The detector of the examples with its preprocessing in the model, and its pipeline."""
    place = Workplace(tmp_path_factory.mktemp("images"))
    for spec in place.specs.glob("*.yaml"):
        if spec.name not in ("shapes.yaml", "find-shapes.yaml"):
            spec.unlink()
    place.edit("shapes.yaml", "preprocess: {input: images, size: [96, 96]", f"{NMS}\n{GRAPH}")
    place.build()
    return place


def test_data_of_the_net_are_judged_as_images(images: Workplace, built: Workplace) -> None:
    def row(place: Workplace, target: str) -> dict[str, object]:
        rows = json.loads((place.out / "report.json").read_text())["rows"]
        found: dict[str, object] = next(r for r in rows if r["id"] == f"shapes@{target}")
        return found

    for target in ("cpu", "cpu-openvino"):
        ours, theirs = row(images, target), row(built, target)
        assert ours["level"] == "executed"
        scores = [side["score"]["source"] for side in (ours, theirs)]  # type: ignore[index]
        assert scores[0] == pytest.approx(scores[1], abs=1e-6)  # the same pixels in fp32
    assert not images.steps_to_run()


@pytest.mark.parametrize("target", ["cpu", "cpu-openvino"])
def test_a_model_that_takes_images_answers_as_its_net_does(
    images: Workplace, built: Workplace, triton: StartTriton, tmp_path: Path, target: str
) -> None:
    server = triton(images.out / target)
    outside = triton(built.out / target)
    data = np.load(SPECS / "shapes" / "evaluation.npz")["images"][:12]
    with (
        InferenceServerClient(server.grpc_url) as client,
        InferenceServerClient(outside.grpc_url) as other,
        EdgeClient(server.grpc_url) as sdk,
    ):
        found = agreed = 0
        for image in data:
            for size in (None, (288, 192)):
                content = png(image, size)
                boxes, wanted = (
                    ask(c, "find-shapes", file=files([content])) for c in (client, other)
                )
                count = int(wanted["count"][0, 0])
                apart = np.abs(boxes["box"][0, :, None] - wanted["box"][0, None, :count]).max(2)
                found += count
                agreed += int((apart.min(0) < 4).sum())
        assert found > 20
        assert agreed / found > 0.9  # int8 ranges differ a little; one pixel in 255 does too
        content = png(data[0], (150, 130))
        pixels = np.asarray(Image.open(io.BytesIO(content)))
        answer = sdk.image("shapes", content)
        rows = sdk.infer("shapes", {"images": np.stack([pixels] * 3)})
        for name, array in answer.outputs.items():
            np.testing.assert_allclose(rows[name][2], array, rtol=1e-4, atol=1e-4)
        with pytest.raises(InvalidInput):  # four channels
            sdk.infer("shapes", {"images": np.zeros((8, 8, 4), np.uint8)})
    (tmp_path / "a.png").write_bytes(content)
    (tmp_path / "gray.jpg").write_bytes(_gray())
    for file in ("a.png", "gray.jpg"):
        ended = repo_builder(
            "infer", "shapes", "--input", tmp_path / file, "--url", server.grpc_url
        )
        assert ended.returncode == 0, ended.stderr

    async def asked() -> dict[str, Array]:
        async with AsyncEdgeClient(server.grpc_url) as client:
            return dict((await client.image("shapes", content)).outputs)

    assert {n: a.tolist() for n, a in asyncio.run(asked()).items()} == {
        n: a.tolist() for n, a in answer.outputs.items()
    }


@pytest.mark.parametrize("target", ["cpu", "cpu-openvino"])
def test_a_model_gives_the_boxes_that_its_pipeline_does(
    images: Workplace, triton: StartTriton, target: str
) -> None:
    server = triton(images.out / target)
    data = np.load(SPECS / "shapes" / "evaluation.npz")["images"][:8]
    found = 0
    with InferenceServerClient(server.grpc_url) as client, EdgeClient(server.grpc_url) as sdk:
        for image in data:
            wanted = ask(client, "find-shapes", file=files([png(image)]))
            answer = sdk.image("shapes", png(image)).outputs
            assert set(answer) == {"boxes", "scores", "box", "score", "class", "count"}
            for name in ("box", "score", "class", "count"):
                np.testing.assert_allclose(answer[name], wanted[name][0], atol=1e-4)
            found += int(answer["count"][0])
    assert found > 8


def test_what_is_not_given_out_cannot_be_wired(images: Workplace, tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    for spec in ("shapes.yaml", "find-shapes.yaml"):
        text = (images.specs / spec).read_text().replace(", keep: [boxes, scores]", "")
        (place.specs / spec).write_text(text)
    command = ["plan", str(place.specs), "--store", str(place.store)]
    ended = CliRunner().invoke(cli, command)
    assert isinstance(ended.exception, SpecError)
    assert "has no output 'boxes'; did you mean 'box'?" in str(ended.exception)


def test_one_request_has_images_of_one_size(images: Workplace, triton: StartTriton) -> None:
    server = triton(images.out / "cpu")
    data = np.load(SPECS / "shapes" / "evaluation.npz")["images"][:2]
    with InferenceServerClient(server.grpc_url) as client:
        with pytest.raises(InferenceServerException, match="70 x 60 and 96 x 96 pixels in one"):
            ask(client, "find-shapes", file=files([png(data[0]), png(data[1], (70, 60))]))
        answer = ask(client, "find-shapes", file=files([png(i, (70, 60)) for i in data]))
        assert answer["box"].shape[0] == 2


def _gray() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(9000, dtype=np.uint32).astype(np.uint8).reshape(90, 100)).save(
        stream, "JPEG"
    )
    return stream.getvalue()


@pytest.mark.parametrize(
    ("target", "more", "said"),
    [
        ("ethos-u55", "", "ethos-u55 takes what its net takes, no images"),
        ("tflite-micro", "", "tflite-micro takes what its net takes"),
        ("jetson-orin-nx", "", "images of one size only; add `source: [height, width]`"),
        ("cpu", ", resize: nearest", "preprocess.resize: no operators take the same nearest"),
        ("cpu", ", mean: [1, 2]", "preprocess: mean has 2 values; rgb has 3 channels"),
        ("cpu", ", source: [0, 5]", "preprocess.source[0]"),
        ("cpu", ", place: grpah", "preprocess.place"),
        (
            "intel-npu",
            ", place: graph, source: [96, 96]}\npostprocess: {mask: {of: y}",
            "a model for intel-npu",
        ),
        (
            "cpu",
            ", place: graph}\npostprocess: {mask: {of: y}, top_k: {of: y}",
            "write just one of: top_k, mask",
        ),
        (
            "cpu",
            ", place: graph}\npostprocess: {nms: {detections: y}",
            "corners reads boxes and scores",
        ),
    ],
)
def test_what_cannot_be_in_a_graph_is_refused_before_anything_runs(
    tmp_path: Path, target: str, more: str, said: str
) -> None:
    place = Workplace(tmp_path)
    text = (place.specs / "shapes.yaml").read_text()
    text = text.replace("targets: [cpu, cpu-openvino]", f"targets: [{target}]")
    (place.specs / "shapes.yaml").write_text(
        text.replace("preprocess: {input: images, size: [96, 96]", GRAPH.replace(
            ", place: graph", "") + more + ("" if "place" in more else ", place: graph"))
    )  # fmt: skip
    spec, store = str(place.specs / "shapes.yaml"), str(place.store)
    ended = CliRunner().invoke(cli, ["plan", spec, "--store", store])
    assert isinstance(ended.exception, SpecError)
    assert said in str(ended.exception)


def test_data_are_made_as_images(images: Workplace, tmp_path: Path) -> None:
    data = np.load(SPECS / "shapes" / "evaluation.npz")["images"][:6]
    for number, image in enumerate(data):
        folder = tmp_path / "photos" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.png").write_bytes(png(image))
    spec = str(images.specs / "shapes.yaml")
    command = ["data", "from-images", str(tmp_path / "photos"), "--spec", spec, "--out"]
    more = ["--metric", "accuracy", "--split", "evaluation=rest"]
    ended = CliRunner().invoke(cli, [*command, str(tmp_path), *more])
    assert ended.exit_code == 0, ended.output
    made = np.load(tmp_path / "evaluation.npz")["images"]
    assert made.dtype == np.uint8
    wanted = np.rint(data.transpose(0, 2, 3, 1) * 255)
    found = {row.tobytes() for row in made}
    assert found == {row.tobytes() for row in wanted.astype(np.uint8)}
