"""The figures of a client, in each of their forms."""

from __future__ import annotations

import json

import pytest

from repo_builder.client.metrics import Metrics


def test_metrics_as_a_snapshot_and_as_text():
    metrics = Metrics()
    for seconds in (0.001, 0.002, 0.004, 1.0):
        metrics.answered('m"\n', "edge", ["edge"] * 2, seconds)
    metrics.answered("m", "mixed", ["edge", "cloud", "edge"], 0.5)
    metrics.gauges(lambda: [("queue", (), 3.0)])
    snapshot = json.loads(json.dumps(metrics.snapshot()))
    assert snapshot['rows_total{model="m",source="edge"}'] == 2
    assert snapshot['rows_total{model="m",source="cloud"}'] == 1
    histogram = next(v for k, v in snapshot.items() if k.startswith("call_seconds") and "\\n" in k)
    assert histogram["count"] == 4
    assert 0.002 <= histogram["p50"] <= 0.004
    text = metrics.prometheus()
    assert 'repo_builder_client_calls_total{model="m\\"\\n",source="edge"} 4' in text
    assert "# TYPE repo_builder_client_call_seconds histogram" in text
    assert "repo_builder_client_queue 3" in text


def test_prometheus_own_parser_reads_the_text():
    parser = pytest.importorskip("prometheus_client.parser")
    metrics = Metrics()
    metrics.answered("m", "edge", ["edge"], 0.01)
    metrics.count("retries_total", (("side", "edge"),))
    families = {f.name: f for f in parser.text_string_to_metric_families(metrics.prometheus())}
    assert families["repo_builder_client_calls"].type == "counter"
    assert families["repo_builder_client_call_seconds"].type == "histogram"


def test_opentelemetry_gets_every_figure():
    sdk = pytest.importorskip("opentelemetry.sdk.metrics")
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    metrics = Metrics()
    metrics.answered("m", "edge", ["edge"] * 3, 0.25)
    metrics.opentelemetry(sdk.MeterProvider([reader]).get_meter("test"))
    points = {
        metric.name: [point.value for point in metric.data.data_points]
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert points["repo_builder_client_calls_total"] == [1]
    assert points["repo_builder_client_rows_total"] == [3]
    assert points["repo_builder_client_call_seconds_sum"] == [0.25]
