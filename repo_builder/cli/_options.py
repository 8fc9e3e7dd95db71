"""Options and conversions that several commands share."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from repo_builder.cli import _complete

if TYPE_CHECKING:
    from repo_builder.targets import Target

F = TypeVar("F", bound=Callable[..., Any])

_FOLDER = click.Path(path_type=Path)


class FiniteRange(click.FloatRange):
    """A number in a range that is one: neither NaN nor infinite."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """As `click.FloatRange`, which lets NaN pass every limit."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


class Duration(click.ParamType):  # type: ignore[type-arg]
    """Seconds, written as `90`, `90s`, `20m` or `1.5h`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds, a minute at least: shorter says nothing of heat."""
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", value.strip())
        if found is None:
            self.fail(f"'{value}' is no duration; write 90s, 20m or 2h.", param, ctx)
        seconds = float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
        if not 60 <= seconds <= 7 * 86400:
            self.fail(
                f"'{value}' is not between 1m and 168h; a number alone is seconds.", param, ctx
            )
        return seconds


POSITIVE = FiniteRange(0, min_open=True)


def number_option(
    name: str, kind: click.IntRange | click.FloatRange, default: float, help_text: str
) -> Callable[[F], F]:
    """A number of `kind` that has a default, which the help shows."""
    return click.option(name, type=kind, default=default, show_default=True, help=help_text)


def specs_argument(function: F) -> F:
    """`SPECS...`: spec files or folders of them."""
    return click.argument("specs", nargs=-1, required=True, type=_FOLDER)(function)


def targets_dir_option(function: F) -> F:
    """`--targets-dir`: target files beside the catalog's."""
    help_text = "A folder with target files of your own."
    return click.option("--targets-dir", type=_FOLDER, help=help_text)(function)


def load_targets(targets_dir: Path | None) -> dict[str, Target]:
    """The catalog and the user's own targets."""
    need_build_extra("targets")
    from repo_builder import targets

    return targets.load(targets_dir)


def selection_options(function: F) -> F:
    """`--only`, `--target`, `--targets-dir`: which model@targets are meant."""
    for option in (
        targets_dir_option,
        click.option(
            "--target",
            "on",
            multiple=True,
            metavar="NAME",
            shell_complete=_complete.targets,
            help="Only for this target. Repeatable.",
        ),
        click.option(
            "--only",
            multiple=True,
            metavar="GLOB",
            shell_complete=_complete.selections,
            help="Only these, e.g. 'digits@*'. Repeatable.",
        ),
    ):
        function = option(function)
    return function


def store_option(function: F) -> F:
    """`--store`: where results are remembered."""
    return click.option(
        "--store",
        type=_FOLDER,
        envvar="REPO_BUILDER_STORE",
        help="Where results are remembered. [default: ~/.cache/repo-builder]",
    )(function)


def store_root(store: Path | None) -> Path:
    """The store that `--store` names, or the default one."""
    if store is not None:
        return store.absolute()
    from repo_builder.run.store import default_root

    return default_root()


def json_option(function: F) -> F:
    """`--json`: the result for machines."""
    return click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")(
        function
    )


def need_build_extra(what: str) -> None:
    """MissingExtra where the packages of the extra `build` are not installed."""
    from importlib.util import find_spec

    from repo_builder.base.errors import MissingExtra

    if any(find_spec(module) is None for module in ("pydantic", "yaml", "onnx", "jinja2")):
        raise MissingExtra("build", what)
