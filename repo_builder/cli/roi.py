"""`repo-builder roi`: whether edge devices pay."""

from __future__ import annotations

import http.client
import math
from pathlib import Path
from urllib.parse import urlsplit

import click

from repo_builder.base import console
from repo_builder.base.errors import DataError, OutputError, SpecError, UsageError
from repo_builder.cli import _options

_WAIT_S = 10.0
_OUT = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--metrics",
    metavar="FILE|URL",
    help="A client's metrics: what share of rows truly fell back, instead of the file's.",
)
@click.option("--model", help="Whose rows of --metrics, where it has several models'.")
@click.option("--plot", type=_OUT, help="Draw what it hangs on, as SVG.")
@click.option("--markdown", type=_OUT, help="Write the answer as Markdown.")
@click.option("--html", type=_OUT, help="Write it as a page.")
@_options.json_option
def command(
    file: Path,
    metrics: str | None,
    model: str | None,
    plot: Path | None,
    markdown: Path | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Say whether a fleet at the edge pays, from the costs in FILE (YAML).

    Bandwidth, cloud compute, hardware, power, support and the share that falls back: each a number
    or {low, likely, high}. `repo-builder schema --roi` prints the file's schema.
    """
    _options.need_build_extra("roi")
    from dataclasses import asdict

    from repo_builder.base import document
    from repo_builder.tune import economics
    from repo_builder.tune.economics import page

    if model is not None and metrics is None:
        raise UsageError("--model names whose rows of --metrics are meant; give that as well")
    read, problems = document.read(file)
    figures: dict[str, economics.Range] = {}
    currency = ""
    if read is not None and not problems:
        figures, currency, problems = economics.figures(read)
    if problems:
        raise SpecError(f"{file} is wrong:", sorted(problems, key=lambda one: one.line))
    if metrics is not None:
        share = economics.fallback_share(_text(metrics), metrics, model)
        console.say(
            f"fallback_share: {share.likely:.2%}, measured ({share.low:.2%} to {share.high:.2%})"
        )
        figures["fallback_share"] = share
    found = economics.answer(figures, currency)
    for path, text in (
        (plot, economics.tornado),
        (markdown, economics.markdown),
        (html, economics.html),
    ):
        if path is not None:
            _write(path, text(found))
    if as_json:
        console.out_json(_finite(asdict(found)))
        return
    for line in page.sentences(found):
        console.out(console.fitted(line))
    console.out("")
    console.out(console.table(("a year", "cloud", "edge"), page.rows(found), right=(1, 2)))
    console.out("")
    swings = [
        (s.name, *map(page.short, (s.low, s.high, s.value_low, s.value_high))) for s in found.swings
    ]
    header = ("it hangs on", "from", "to", "worth", "to")
    console.out(console.table(header, swings, right=(1, 2, 3, 4)))


def _text(metrics: str) -> str:
    """The metrics' text, of a file or of an http URL."""
    if not metrics.startswith(("http://", "https://")):
        try:
            return Path(metrics).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as failure:
            why = getattr(failure, "strerror", None) or "not UTF-8 text"
            raise DataError(f"{metrics}: {why.lower()}") from None
    from repo_builder.base import http_request

    parts = urlsplit(metrics)
    if parts.scheme == "https":
        raise UsageError(f"{metrics}: only http is asked; save it to a file and name that")
    try:
        status, body = http_request.send(
            parts.netloc, "GET", parts.path or "/metrics", timeout_s=_WAIT_S
        )
    except (OSError, http.client.HTTPException) as failure:
        raise DataError(f"{metrics}: no answer: {failure}") from None
    if status != 200:
        raise DataError(f"{metrics}: HTTP status {status}")
    return body.decode("utf-8", "replace")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as failure:
        raise OutputError(f"cannot write {path}: {failure.strerror}") from None


def _finite(value: object) -> object:
    """Infinity as null, since JSON has none: never."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
