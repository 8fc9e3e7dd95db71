"""The story of the documentation: `digits` on the edge, `digits-large` in the cloud, and the
promise between them, kept by the client without a constant in the application."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from repo_builder.cli import cli
from repo_builder.client import AsyncEdgeClient, EdgeClient
from repo_builder.client import load as loads
from repo_builder.steps import _confidence as confidence

SPECS = Path(__file__).parents[2] / "model_specs"
MAX_ERROR = 0.02


def write(folder: Path, name: str, parameters: dict[str, str]) -> None:
    model = folder / name
    (model / "1000000").mkdir(parents=True)
    shutil.copy(SPECS / f"{name}/{name}.onnx", model / "1000000/model.onnx")
    labels = (SPECS / f"{name}/labels.txt").read_text().split()
    parameters = {
        "repo_builder.version": "1.0.0",
        "repo_builder.labels": json.dumps({"logits": labels}),
        "repo_builder.preprocess": json.dumps(
            {"input": "image", "size": [8, 8], "color": "gray", "scale": 1 / 255}
        ),
        **parameters,
    }
    text = "".join(
        f"parameters {{ key: {json.dumps(k)} value {{ string_value: {json.dumps(v)} }} }}\n"
        for k, v in parameters.items()
    )
    (model / "config.pbtxt").write_text(
        f'name: "{name}"\nbackend: "onnxruntime"\nmax_batch_size: 64\n'
        'input [{ name: "image" data_type: TYPE_FP32 dims: [1, 8, 8] }]\n'
        'output [{ name: "logits" data_type: TYPE_FP32 dims: [10] }]\n'
        "instance_group [{ count: 1 kind: KIND_CPU }]\n" + text
    )


@pytest.fixture(scope="module")
def served(module_triton, tmp_path_factory) -> tuple[str, str, Any, Any]:
    """Addresses of edge and cloud, and the half of the data that calibration has not seen."""
    folder = tmp_path_factory.mktemp("digits")
    data = np.load(SPECS / "digits/evaluation.npz")
    half = np.random.default_rng(0).permutation(len(data["label"]))
    seen, unseen = half[:600], half[600:]
    write(folder / "plain", "digits", {})
    write(folder / "cloud", "digits-large", {})
    plain = module_triton(folder / "plain")
    # Calibrated on what the served model itself answers.
    with EdgeClient(plain.grpc_url) as client:
        images = [data["image"][seen[i : i + 60]] for i in range(0, 600, 60)]
        logits = np.concatenate([r["logits"] for r in client.infer_many("digits", images)])
    policy, found = confidence.calibrate(
        logits,
        data["label"][seen],
        output="logits",
        digest="sha256:test",
        max_error=MAX_ERROR,
        cloud_model="digits-large",
    )
    assert found.threshold is not None, found.warning
    write(folder / "edge", "digits", {"repo_builder.confidence": policy.to_json()})
    edge, cloud = module_triton(folder / "edge"), module_triton(folder / "cloud")
    return edge.grpc_url, cloud.grpc_url, data["image"][unseen], data["label"][unseen]


def test_the_promise_is_kept_and_the_cloud_corrects_the_rest(served):
    edge, cloud, images, labels = served
    with EdgeClient(edge, cloud) as client, EdgeClient(edge) as alone:
        parts = range(0, len(images), 50)
        together = client.infer_many("digits", [images[i : i + 50] for i in parts])
        apart = alone.infer_many("digits", [images[i : i + 50] for i in parts])
        policy = client.describe("digits").policy
    answers = np.concatenate([r["logits"].argmax(1) for r in together])
    by_edge = np.concatenate([[s == "edge" for s in r.sources] for r in together])
    edge_only = np.concatenate([r["logits"].argmax(1) for r in apart])
    assert {s for r in together for s in r.sources} == {"edge", "cloud"}
    assert (policy.max_error, policy.confidence_level) == (MAX_ERROR, 0.95)
    wrong, kept = int((answers != labels)[by_edge].sum()), int(by_edge.sum())
    # 200 unseen images: what speaks against the promise is a rate that 2 % would hardly give.
    assert confidence.binomial_cdf(wrong - 1, kept, MAX_ERROR) < 0.995
    assert 0.2 < by_edge.mean() < 1.0
    assert (answers == labels).mean() >= (edge_only == labels).mean()
    names = (SPECS / "digits/labels.txt").read_text().split()
    assert together[0].labels == [names[n] for n in answers[:50]]


def test_an_image_as_bytes_is_prepared_as_the_spec_says(served):
    edge, cloud, _, _ = served
    with EdgeClient(edge, cloud) as client:
        result = client.image("digits", (SPECS / "digits/sample.png").read_bytes())
    assert result.batch is None
    assert result.labels
    assert 0.0 < result.confidence <= 1.0


def test_the_example_of_many_samples_runs(served, capsys):
    edge, cloud, images, _ = served
    text = (SPECS.parent / "docs/client.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (code,) = (block for block in blocks if ".infer_many(" in block)
    with EdgeClient(edge, cloud) as client:
        names = {"client": client, "images": [*images[:5], images[0].astype("f8")]}
        exec(compile(code, "client.md", "exec"), names)  # noqa: S102 - what is tested is the text
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 6
    assert all(line.split()[1] in ("edge", "cloud") for line in said[:5])
    assert said[5].startswith("not answered: model 'digits': input")


@pytest.mark.parametrize("page", ["README.md", "docs/client.md"])
def test_the_code_that_the_documentation_shows_runs(served, tmp_path, monkeypatch, capsys, page):
    edge, cloud, images, _ = served
    text = (SPECS.parent / page).read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = next(block for block in blocks if "EdgeClient(" in block)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    # The servers of this test, without TLS; a token needs none on the loopback.
    for said, here in (
        ("localhost:8001", edge),
        ("cloud.example.com:8001", cloud),
        ("cloud:8001", cloud),
        (" tls=Tls(),", ""),
    ):
        code = code.replace(said, here)
    assert cloud in code
    monkeypatch.chdir(tmp_path)
    shutil.copy(SPECS / "digits/sample.png", tmp_path)
    (tmp_path / "token").write_text("secret")
    shown: list[Any] = []
    exec(  # noqa: S102 - what is tested is the text
        compile(code, page, "exec"),
        {"images": images[:9], "camera_frames": iter(images[:5]), "show": shown.append},
    )
    said = capsys.readouterr().out.splitlines()
    if page == "README.md":
        assert said[0].count("'") == 2 * 9, "a label each"
        return
    assert said[0].startswith("2 "), "the digit on sample.png"
    assert said[1].startswith("(9, 10) ['")
    assert len(shown) == 5
    assert any(line.startswith("repo_builder_client_calls_total") for line in said)


def test_bench_prints_and_plots(served, tmp_path):
    edge, cloud, _, _ = served
    run = CliRunner()
    plot = tmp_path / "plot.svg"
    arguments = ["bench", edge, "--model", "digits", "--cloud", cloud, "--seconds", "0.5"]
    done = run.invoke(cli, [*arguments, "--callers", "2", "--plot", str(plot)])
    assert done.exit_code == 0, done.output
    assert "p99" in done.output
    assert "calls, " in done.output
    assert plot.read_text().startswith("<svg")
    data = str(SPECS / "digits/evaluation.npz")
    done = run.invoke(cli, [*arguments, "--rate", "50", "--input", data, "--json"])
    figures = json.loads(done.stdout)
    assert figures["calls"] > 5
    assert figures["latency_ms"]["p50"] <= figures["latency_ms"]["max"]
    assert set(figures["sources"]) <= {"edge", "cloud", "mixed"}


def test_bench_of_one_caller_says_whether_to_trust_it(served):
    edge, _, _, _ = served
    run = CliRunner()
    arguments = ["bench", edge, "--model", "digits", "--latency", "--seconds", "0.5"]
    figures = json.loads(run.invoke(cli, [*arguments, "--json"]).stdout)
    trust = figures["trust"]
    assert 1 <= trust["cores"] <= len(os.sched_getaffinity(0))
    assert trust["load"] is None or 0 <= trust["load"] <= 1
    assert trust["spread"] >= 0
    printed = run.invoke(cli, arguments)
    assert printed.exit_code == 0, printed.output
    assert re.search(r"^on .+, \d+ cores?; others used (\d+%|unknown) of it", printed.stdout, re.M)
    assert ("not to be trusted" in printed.output) == ("ask again while" in printed.output)
    mixed = run.invoke(cli, [*arguments, "--callers", "2"])
    assert "give one of --latency, --callers" in str(mixed.exception)


def test_a_soak_drives_a_server_and_tells_what_it_could_not_read(served):
    import asyncio

    from repo_builder.tune import soak

    edge, _, images, _ = served

    async def soaked() -> soak.Soak:
        async with AsyncEdgeClient(edge) as client:

            async def load(seconds: float) -> loads.Load:
                ask = loads.asking(client, "digits", [images[:1]], 5)
                return await loads.closed_loop(ask, callers=2, seconds=seconds)

            return await soak.run(load, 2.0)

    found = asyncio.run(soaked())
    assert sum(one.calls for one in found.slices) > 10
    assert sum(one.seconds for one in found.slices) >= 2.0
    assert found.idle_watts or found.missing  # measured, or told why not
    assert soak.kept(found).interval is None  # of two slices nothing is promised


def test_a_soak_of_seconds_is_refused(served):
    edge, _, _, _ = served
    done = CliRunner().invoke(cli, ["bench", edge, "--model", "digits", "--soak", "5s"])
    assert done.exit_code == 2
    assert "'5s' is not between 1m and 168h" in done.output


def test_an_open_loop_counts_a_stall_for_every_call_it_held_up(served):
    import asyncio

    from faults import Proxy

    edge, _, images, _ = served

    async def stalled(open_loop: bool) -> loads.Load:
        with Proxy(edge) as proxy:
            async with AsyncEdgeClient(proxy.address) as client:
                await client.infer("digits", images[:1])

                async def stall() -> None:
                    await asyncio.sleep(0.3)
                    proxy.blackhole = True
                    await asyncio.sleep(0.5)
                    proxy.blackhole = False

                task = asyncio.ensure_future(stall())
                ask = loads.asking(client, "digits", [images[:1]], 5)
                if open_loop:
                    load = await loads.open_loop(ask, rate=60, seconds=1.2)
                else:
                    load = await loads.closed_loop(ask, callers=1, seconds=1.2)
                await task
                return load

    def slow(load: loads.Load) -> int:
        return sum(latency > 0.1 for latency in load.latencies)

    # One caller meets the stall once; of 60 calls a second, about 24 were due over 0.1 s before
    # its end.
    assert slow(asyncio.run(stalled(open_loop=False))) <= 2
    assert slow(asyncio.run(stalled(open_loop=True))) >= 8
