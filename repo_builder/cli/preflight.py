"""`repo-builder preflight`: whether a TensorRT plan fits a device, before Triton loads it."""

from __future__ import annotations

from pathlib import Path

import click

from repo_builder.base import console


@click.command()
@click.argument("plan", required=False, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--device",
    "device_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON of another device, as --probe prints it there; this machine without it.",
)
@click.option("--probe", "only_probe", is_flag=True, help="Print what this machine is, as JSON.")
def command(plan: Path | None, device_file: Path | None, only_probe: bool) -> None:
    """Compare the record beside PLAN (a model.plan or its folder) with a device."""
    from dataclasses import asdict

    from repo_builder.base.errors import PreflightFailed, UsageError
    from repo_builder.trt import probe, record

    if only_probe:
        console.out_json(asdict(probe.device()))
        return
    if plan is None:
        raise UsageError("no plan given: repo-builder preflight model.plan, or --probe")
    kept = record.read(plan if plan.is_dir() else plan.parent)
    if device_file is None:
        device = probe.device()
    else:
        device = record.device_from(device_file.read_text(encoding="utf-8"), str(device_file))
    found = record.mismatches(kept, device)
    if found:
        raise PreflightFailed(f"{plan} does not fit:", found)
    console.out(f"{plan} fits {device.gpu}, TensorRT {device.tensorrt}, {device.platform}")
