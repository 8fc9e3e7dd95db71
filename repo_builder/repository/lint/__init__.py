"""`lint`: what Triton would say of a repository, without Triton.

`model.py` reads a model's folder as Triton's loader does, each module of rules looks at it, and
nothing here writes; `fix.py` does. A rule is a function and a row of its module's `RULES`; `lint`
below asks them all. What a config should say is decided in `repository/config.py`.
Triton is taken to run as we run it, with `--disable-auto-complete-config`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from repo_builder.base.errors import Problem, UsageError
from repo_builder.repository.lint import (
    core,
    ensemble,
    instances,
    layout,
    onnx_parameters,
    onnx_sequence,
    onnxruntime,
    openvino,
    openvino_parameters,
    poll,
    python,
    resources,
    scheduling,
    shapes,
    tensorrt,
    warmup,
)
from repo_builder.repository.lint.model import Model, read
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.types import CONFIG, Finding, Hit
from repo_builder.targets import Target

__all__ = ["RULES", "Finding", "Rule", "lint", "lint_config", "models", "refusals"]

_THEMES = (
    layout,
    poll,
    core,
    shapes,
    scheduling,
    instances,
    warmup,
    ensemble,
    onnxruntime,
    onnx_sequence,
    onnx_parameters,
    openvino,
    openvino_parameters,
    tensorrt,
    python,
    resources,
)
_CONFIG_RULES: tuple[Rule, ...] = tuple(rule for theme in _THEMES for rule in theme.RULES)
_BACKEND_OF = {
    rule.id: backend
    for backend, themes in (
        ("onnxruntime", (onnxruntime, onnx_sequence, onnx_parameters)),
        ("openvino", (openvino, openvino_parameters)),
    )
    for theme in themes
    for rule in theme.RULES
}
"""Rules that look at models of one backend only; others are spared the question."""
_DISABLE = re.compile(r"#\s*lint:\s*disable=([\w,-]+)[ \t]*([^\n]*)")


def _bad_disable(model: Model) -> Iterator[Hit]:
    """A `# lint: disable=RULE reason` names rules that exist, and gives a reason."""
    known = {rule.id for rule in RULES}
    for match in _DISABLE.finditer(model.text):
        line = model.text.count("\n", 0, match.start()) + 1
        for name in match.group(1).split(","):
            if name not in known:
                yield Hit(f"there is no rule '{name}'", line=line)
        if not match.group(2).strip(" -"):
            yield Hit("disables a rule without a reason", fix="write why after it", line=line)


RULES: tuple[Rule, ...] = (
    *layout.ALWAYS,
    Rule("bad-disable", "warning", "sense", "docs/lint.md", _bad_disable),
    *_CONFIG_RULES,
)
"""All rules; ids never change their meaning."""


def lint(
    paths: Iterable[Path],
    *,
    target: Target | None = None,
    named: Mapping[str, Target] = MappingProxyType({}),
) -> list[Finding]:
    """All findings for the models of `paths`, in order of model, file and line.

    A path is a model's folder, a repository of them, or a folder that holds one in `models/`.
    `target` adds the rules that need to know the device; `named` holds the devices of configs that
    --model-config-name chooses. UsageError for a path that is no folder; whatever is wrong inside
    one is a finding.
    """
    return [finding for path in paths for finding in _repository(models(path), target, named)]


def _repository(
    folders: Mapping[str, Path], target: Target | None, named: Mapping[str, Target]
) -> Iterator[Finding]:
    """Findings as Triton starts without a name of configs, then what each name adds to them."""
    plain = _read(folders, target)
    found = {name: _findings(plain[name]) for name in folders}
    for config in sorted({config for name in folders for config in plain[name].named}):
        loaded = _read(folders, named.get(config), config)
        for name in folders:
            model = loaded[name]
            # An ensemble can break by another config of its steps.
            if model.config_file != CONFIG or _steps(model):
                more = _findings(model, plain[name])
                found[name] += [finding for finding in more if finding not in found[name]]
    return itertools.chain.from_iterable(found.values())


def _read(folders: Mapping[str, Path], target: Target | None, config: str = "") -> dict[str, Model]:
    loaded: dict[str, Model] = {}
    for name, folder in folders.items():
        loaded[name] = read(folder, loaded, target, config)
    if len(folders) == 1:
        # An ensemble that is named alone still needs the models beside it.
        (model,) = loaded.values()
        for step in _steps(model):
            beside = model.folder.resolve().parent / step
            if step and step not in loaded and beside.is_dir():
                loaded[step] = read(beside, loaded, target, config)
    return loaded


def _steps(model: Model) -> list[str]:
    """The models that an ensemble consists of."""
    if model.config is None:
        return []
    return [step.model_name for step in model.config.ensemble_scheduling.step]


def lint_config(text: str, name: str, *, target: Target | None = None) -> list[Finding]:
    """Findings for the config of a model called `name` that has no folder yet."""
    model = Model(Path(name), {}, target)
    model.parse(text)
    themes = (theme for theme in _THEMES if theme not in (layout, poll, ensemble))
    rules = [rule for theme in themes for rule in theme.RULES]
    return _findings(model, rules=rules)


def models(path: Path) -> dict[str, Path]:
    """Name -> folder of each model of a path; see `lint`."""
    if not path.is_dir():
        raise UsageError(f"{path}: no such folder; give a model repository or a model in one")
    if (path / CONFIG).exists():
        return {path.resolve().name: path}
    inner = path / "models"
    root = inner if inner.is_dir() and not (inner / CONFIG).exists() else path
    try:
        folders = sorted(p for p in root.iterdir() if _is_model(p))
    except OSError as failure:
        raise UsageError(f"{root}: cannot be read: {failure.strerror}") from None
    return {folder.name: folder for folder in folders}


def _is_model(path: Path) -> bool:
    try:
        return path.is_dir() or path.is_symlink()
    except OSError:
        return True


def _findings(
    model: Model, plain: Model | None = None, rules: Sequence[Rule] = RULES
) -> list[Finding]:
    """What the rules say of a model; `plain` is the same model with its config.pbtxt."""
    disabled = _disabled(model) | (_disabled(plain) if plain else frozenset())
    if model.config is None:
        rules = layout.ALWAYS
    else:
        backend = model.backend
        rules = [rule for rule in rules if _BACKEND_OF.get(rule.id, backend) == backend]
    made = {
        _finding(model, *found)
        for rule in rules
        if rule.id not in disabled
        for found in _hits(model, rule)
    }
    return sorted(made, key=lambda f: (f.file, f.line, f.rule, f.field))


def _disabled(model: Model) -> frozenset[str]:
    """The rules that the model's config switches off, with a reason."""
    return frozenset(
        name
        for match in _DISABLE.finditer(model.text)
        if match.group(2).strip(" -")
        for name in match.group(1).split(",")
    )


def _hits(model: Model, rule: Rule) -> Iterator[tuple[Rule, Hit]]:
    """What a rule finds; what it cannot read is a finding of its own."""
    try:
        for hit in rule.check(model):
            yield rule, hit
    except OSError as failure:
        place = Path(str(failure.filename))
        inside = place.is_relative_to(model.folder)
        file = str(place.relative_to(model.folder)) if inside else ""
        yield layout.ALWAYS[0], Hit(f"cannot be read: {failure.strerror}", file=file)


def _finding(model: Model, rule: Rule, hit: Hit) -> Finding:
    line, file = hit.line, model.config_file if hit.file == CONFIG else hit.file
    if not line and hit.file == CONFIG and model.config is not None:
        line = model.positions.line(hit.field)
    return Finding(
        rule=rule.id,
        severity=rule.severity,
        judge=rule.judge,
        source=rule.source,
        model=model.name,
        file=str(model.folder / file) if file else str(model.folder),
        line=line,
        field=hit.field,
        what=hit.what,
        fix=hit.fix,
        edit=hit.edit,
    )


def refusals(repository: Path, target: Target, named: Mapping[str, Target]) -> dict[str, str]:
    """Model -> why Triton would refuse it, in one line; {} where it would take all of them.

    Files are told relative to `repository`.
    """
    why: dict[str, list[str]] = {}
    for found in lint([repository], target=target, named=named):
        if found.severity == "error":
            file = str(Path(found.file).relative_to(repository))
            problem = Problem(found.what, found.fix, file, found.line, found.field)
            why.setdefault(found.model, []).append(f"{problem} [{found.rule}]")
    return {model: f"Triton would refuse it: {'; '.join(lines)}" for model, lines in why.items()}
