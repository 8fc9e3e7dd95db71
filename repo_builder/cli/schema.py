"""`repo-builder schema`: the JSON Schema of spec files, for editors."""

from __future__ import annotations

import json

import click

from repo_builder.base import console
from repo_builder.base.errors import UsageError
from repo_builder.cli import _options


@click.command()
@click.option("--defaults", is_flag=True, help="The schema of defaults.yaml instead.")
@click.option("--targets", is_flag=True, help="The schema of target files instead.")
@click.option("--roi", is_flag=True, help="The schema of files of costs instead.")
@click.option("--tuning", is_flag=True, help="The schema of tuning.yaml instead.")
def command(defaults: bool, targets: bool, roi: bool, tuning: bool) -> None:
    """Print the JSON Schema of spec files.

    Save it and name it in a spec's first line, and your editor completes and checks the spec:

        # yaml-language-server: $schema=spec.schema.json
    """
    _options.need_build_extra("schema")
    if defaults + targets + roi + tuning > 1:
        what = "--defaults, --targets, --roi and --tuning"
        raise UsageError(f"{what} are schemas of their own; ask for one")
    from repo_builder.spec import schema
    from repo_builder.targets.schema import of_targets

    if roi:
        from repo_builder.tune.economics import schema as of_costs

        console.out(json.dumps(of_costs(), indent=2, ensure_ascii=False))
        return
    if tuning:
        console.out(json.dumps(schema.of_tunings(), indent=2, ensure_ascii=False))
        return
    found = of_targets() if targets else schema.of_defaults() if defaults else schema.of_specs()
    console.out(json.dumps(found, indent=2, ensure_ascii=False))
