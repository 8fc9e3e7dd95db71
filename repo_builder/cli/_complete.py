"""What a shell may complete: targets, power modes, models, patterns. Reads text, imports no tool.

A shell waits for these at every Tab, so files are searched, not parsed: a file that is wrong
completes less, and says nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

import repo_builder

_CATALOG = Path(repo_builder.__file__).parent / "targets" / "catalog"
_NAME = re.compile(r"^name: *['\"]?([\w.-]+)", re.MULTILINE)
_MODE = re.compile(r"^ *- *\{? *name: *['\"]?([\w.-]+)", re.MULTILINE)
_MOST_FILES = 200


def targets(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Names of targets: the catalog's, and those of `--targets-dir`."""
    return _that_begin(incomplete, _targets(ctx))


def power_modes(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Power modes of the target that the command line names."""
    for folder in _folders(ctx):
        text = _text(folder / f"{next(iter(_arguments(ctx, 'name')), '')}.yaml")
        _, found, modes = text.partition("\npower_modes:")
        if found:
            end = re.search(r"^\w", modes, re.MULTILINE)
            return _that_begin(incomplete, _MODE.findall(modes[: end.start() if end else None]))
    return []


def selections(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """`MODEL@*`, and after the `@` each target, for models of the spec files that are named.

    Where none is named yet: those of this folder and of the folders in it. `*` is every model.
    """
    names = sorted({"*", *_models(_arguments(ctx, "specs"))})
    if "@" not in incomplete:
        return _that_begin(incomplete, (f"{name}@*" for name in names))
    return _that_begin(incomplete, (f"{n}@{target}" for n in names for target in _targets(ctx)))


def served(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Models of the repository that is named, else of those that were built below this folder."""
    repository = _arguments(ctx, "repository")[:1]
    folders = (
        [Path(repository[0])] if repository else [*Path().glob("*/*/models"), *Path().glob("*")]
    )
    configs = (
        config
        for folder in folders
        for config in (*folder.glob("*/config.pbtxt"), *folder.glob("models/*/config.pbtxt"))
    )
    return _that_begin(incomplete, {config.parent.name for config in configs})


def _arguments(ctx: click.Context, name: str) -> list[str]:
    """What was given for the argument `name` of the command, as texts.

    Behind an option whose value is being completed click parses nothing, and leaves the words.
    """
    if all(param.name != name for param in ctx.command.params):
        return []
    given = ctx.params.get(name) or ctx.args
    return [str(one) for one in ([given] if isinstance(given, (str, Path)) else given)]


def _that_begin(incomplete: str, words: Iterable[str]) -> list[str]:
    return sorted(word for word in words if word.startswith(incomplete))


def _folders(ctx: click.Context) -> list[Path]:
    own = ctx.params.get("targets_dir")
    return [*([Path(own)] if own else []), _CATALOG]


def _targets(ctx: click.Context) -> set[str]:
    return {file.stem for folder in _folders(ctx) for file in folder.glob("*.yaml")}


def _models(specs: Iterable[Path | str]) -> Iterator[str]:
    files: list[Path] = []
    for path in map(Path, specs):
        files += path.glob("*.yaml") if path.is_dir() else [path]
    for file in files or [*Path().glob("*.yaml"), *Path().glob("*/*.yaml")][:_MOST_FILES]:
        yield from _NAME.findall(_text(file))[:1]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
