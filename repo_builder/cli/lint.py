"""`repo-builder lint`: what Triton would say of a repository, without running it."""

from __future__ import annotations

from pathlib import Path

import click

from repo_builder.base import console
from repo_builder.base.errors import LintFailed, OutputError
from repo_builder.cli import _options


@click.command()
@click.argument("repositories", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--target", metavar="NAME", help="Also check what this device must bear.")
@click.option("--targets-dir", type=click.Path(path_type=Path), help="Target files of your own.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "sarif"]),
    default="text",
    show_default=True,
    help="How findings are printed.",
)
@click.option(
    "--fix", is_flag=True, help="Write the repairs that need no thought, then lint again."
)
def command(
    repositories: tuple[Path, ...],
    target: str | None,
    targets_dir: Path | None,
    form: str,
    fix: bool,
) -> None:
    """Find what Triton would refuse, or accept and do wrong, in model repositories.

    A repository is a folder of models, a single model in one, or a build's folder of a target. A
    rule is switched off for a model by `# lint: disable=RULE reason` in its config.pbtxt. Exits
    with 10 where Triton would refuse a model.
    """
    _options.need_build_extra("lint")
    from repo_builder import targets
    from repo_builder.repository import lint as linting
    from repo_builder.repository.lint import fix as repairs
    from repo_builder.repository.lint import output

    catalog = targets.load(targets_dir) if target else {}
    device = targets.pick(catalog, target) if target else None
    findings = linting.lint(repositories, target=device, named=catalog)
    if fix:
        try:
            done = repairs.apply(findings)
        except OSError as failure:
            raise OutputError(f"{failure.filename}: cannot be mended: {failure.strerror}") from None
        for finding in done:
            console.say(f"mended {finding.file}: {finding.rule}")
        findings = linting.lint(repositories, target=device, named=catalog)
    if form == "json":
        console.out_json(output.as_json(findings))
    elif form == "sarif":
        console.out_json(output.as_sarif(findings))
    elif findings:
        console.out(output.text(findings))
    count = sum(len(linting.models(path)) for path in repositories)
    console.say(output.summary(findings, count))
    errors = sum(finding.severity == "error" for finding in findings)
    if errors:
        raise LintFailed(f"Triton would refuse this: {errors} error{'s' if errors > 1 else ''}")
