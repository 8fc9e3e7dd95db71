"""What happens inside a worker process: one step, from fetched inputs to a stored entry."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import faulthandler
import importlib
import importlib.metadata
import os
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from repo_builder.base import digest
from repo_builder.base.artifact import Entry
from repo_builder.base.errors import MissingExtra, RepoBuilderError, StepError
from repo_builder.plan import ArtifactRef, Declaration, Node, SourceFiles
from repo_builder.run.store import Store, disk_error

_STDERR = 2  # a file descriptor: while a step runs, its log


def run_node(
    node: Node, module: str, declaration: Declaration, inputs: Mapping[str, Entry], root: str
) -> Entry:
    """Run one step in this process and put what it made into the store below `root`.

    `module` is the step's, `inputs` are the entries of the node's made inputs, by key. All that
    the step prints, from Python or native code, goes to its log. Raises nothing but
    RepoBuilderError.
    """
    store = Store(Path(root))
    for tool in declaration.tools:
        try:
            importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            raise MissingExtra(declaration.extra, f"the step {node.step}") from None
    log = store.log(node.key)
    try:
        with store.workspace() as work, _output_to(log), _limited(declaration.limit_s):
            try:
                return _run(node, module, declaration, inputs, store, work)
            except Exception as failure:  # noqa: BLE001 - told as one line; the log has the rest
                with contextlib.suppress(OSError):
                    traceback.print_exc()
                raise _step_error(failure, node, store) from None
    except OSError as failure:  # of the log
        raise disk_error(store.root, failure) from None


def _step_error(failure: Exception, node: Node, store: Store) -> RepoBuilderError:
    """What went wrong in a step, in one line."""
    log = store.log(node.key)
    if isinstance(failure, RepoBuilderError):
        shown = _with_users_paths(failure, node)
        if type(shown) is StepError:  # a tool's failure, of which the log knows more
            return StepError(f"{shown.message}; log: {log}", shown.problems)
        return shown
    if isinstance(failure, MemoryError):
        what = "ran out of memory; use fewer --jobs or smaller data"
        return StepError(f"{node.step} {what}; log: {log}")
    if isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT):
        return disk_error(store.root, failure)  # steps write nowhere else
    what = " ".join(f"{type(failure).__name__}: {failure}".split())[:300]
    return StepError(f"{node.step} failed: {what}; log: {log}")


def _with_users_paths(failure: RepoBuilderError, node: Node) -> RepoBuilderError:
    """The same error with the user's paths in place of the names that files have in a step."""
    if type(failure).__init__ is not RepoBuilderError.__init__:
        return failure
    paths = {
        name: str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
        for value in node.inputs.values()
        if isinstance(value, SourceFiles)
        for name, (path, _) in value.files.items()
    }

    def with_paths(text: str) -> str:
        return re.sub(r"(?<![\w./-])[\w.-]+", lambda word: paths.get(word[0], word[0]), text)

    problems = [
        dataclasses.replace(
            p, what=with_paths(p.what), fix=with_paths(p.fix), file=with_paths(p.file)
        )
        for p in failure.problems
    ]
    return type(failure)(with_paths(failure.message), problems)


def _run(
    node: Node,
    module: str,
    declaration: Declaration,
    inputs: Mapping[str, Entry],
    store: Store,
    work: Path,
) -> Entry:
    from pydantic import TypeAdapter

    step: Any = importlib.import_module(module)
    folders: dict[str, Path] = {}
    for name, value in node.inputs.items():
        folder = work / "in" / name
        folder.mkdir(parents=True)
        if isinstance(value, ArtifactRef):
            store.fetch(inputs[value.key], folder)
        else:
            _copy_source(value, folder)
        folders[name] = folder
    params = TypeAdapter(step.Params).validate_python(node.params)
    out = work / "out"
    out.mkdir()
    kept = (store.root / declaration.keeps,) if declaration.keeps else ()
    begun = time.perf_counter()
    facts = step.run(step.Inputs(**folders), params, out, *kept)
    seconds = time.perf_counter() - begun
    plain = TypeAdapter(step.Facts).dump_python(facts, mode="json")
    return store.put(node.key, node.recipe, out, plain, seconds)


def _copy_source(source: SourceFiles, folder: Path) -> None:
    """Copy the user's files and check that they are what the plan saw."""
    for name, (path, sha256) in source.files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, target)
            same = digest.of_file(target) == sha256
        except (FileNotFoundError, PermissionError) as failure:
            raise StepError(f"{path}: {failure.strerror}") from None
        if not same:
            raise StepError(f"{path} changed while it was being built; build again")


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Send file descriptors 1 and 2 to `log`, so that native tools are caught too."""
    _flush()
    saved = os.dup(1), os.dup(2)
    try:
        _point_output(log)
        yield
    finally:
        try:
            _flush()
        except OSError:  # the disk is full: the rest of the log is lost
            _point_output(Path(os.devnull))
            _flush()
        for number, kept in zip((1, 2), saved, strict=True):
            os.dup2(kept, number)
            os.close(kept)


@contextlib.contextmanager
def _limited(seconds: float | None) -> Iterator[None]:
    """Let the kernel end this process after `seconds`, even in native code that holds everything.

    The log then says where it was. A thread of a process that is not ours has no limit.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    faulthandler.register(signal.SIGALRM, _STDERR, chain=True)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.unregister(signal.SIGALRM)


def _point_output(path: Path) -> None:
    with path.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
