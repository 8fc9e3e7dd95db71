"""Runs inside a build stage: writes down which package each byte of a layer came from.

The result, `usr/share/repo-builder/contents/LAYER.json`, maps package URLs to files, bytes and
licence; it is what size tables and the SBOM are made of. Licence texts of Debian packages are
copied along, those of wheels are in their `.dist-info`.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_CONTENTS = "usr/share/repo-builder/contents"
_DPKG = Path("/var/lib/dpkg")
_COPYRIGHT = "usr/share/doc/{}/copyright"


def write(out: Path, sources: Mapping[Path, Path], packages: Path | None) -> None:
    """Write the inventory of the layer `out`, whose files came from `sources`."""
    owners, licences = _wheels(packages)
    for path, purl in _debian().items():
        owners.setdefault(path, purl)
    found: dict[str, dict[str, Any]] = {}
    for target, source in sorted(sources.items()):
        purl = _owner(source, owners)
        entry = found.setdefault(purl, {"files": 0, "bytes": 0, "licence": licences.get(purl, "")})
        compiled = target.parent.glob(f"__pycache__/{target.stem}.*.pyc")
        for path in (target, *(compiled if target.suffix == ".py" else ())):
            entry["files"] += 1
            entry["bytes"] += path.stat().st_size
    for purl in found:
        _copy_copyright(purl, out)
    home = out / _CONTENTS
    home.mkdir(parents=True, exist_ok=True)
    (home / f"{out.name}.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
    total = sum(entry["bytes"] for entry in found.values())
    print(f"slim: {out.name}: {len(sources)} files, {total / 1e6:.1f} MB")


def _owner(source: Path, owners: Mapping[Path, str]) -> str:
    for path in (source.parent.resolve() / source.name, source.resolve()):
        if path in owners:
            return owners[path]
    if source.is_relative_to("/context"):
        return "pkg:generic/repo-builder"
    if source.is_relative_to(sys.base_prefix) and "python" in str(source):
        return f"pkg:generic/python@{platform.python_version()}"
    return "pkg:generic/base-image"


def _wheels(packages: Path | None) -> tuple[dict[Path, str], dict[str, str]]:
    """File -> package URL, and package URL -> licence, of what pip installed."""
    owners: dict[Path, str] = {}
    licences: dict[str, str] = {}
    for wheel in importlib.metadata.distributions(path=[str(packages)]) if packages else ():
        purl = f"pkg:pypi/{wheel.metadata['Name'].lower().replace('_', '-')}@{wheel.version}"
        fields = wheel.metadata.get_all
        licence = (fields("License-Expression") or fields("License") or [""])[0]
        # Some projects put the whole text there.
        licences[purl] = licence if "\n" not in licence and len(licence) < 60 else ""
        for file in wheel.files or ():
            owners[Path(wheel.locate_file(file)).resolve()] = purl  # type: ignore[arg-type]
    return owners, licences


def _debian() -> dict[Path, str]:
    """File -> package URL, from dpkg's own lists."""
    if not (_DPKG / "status").exists():
        return {}
    system = "debian"
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("ID="):
            system = line[3:].strip('"')
    versions: dict[str, str] = {}
    for block in (_DPKG / "status").read_text().split("\n\n"):
        lines = [line.split(": ", 1) for line in block.splitlines() if line[:1].isalpha()]
        fields = {line[0]: line[1] for line in lines if len(line) == 2}
        if "Version" in fields:
            version = fields["Version"].replace(":", "%3A").replace("+", "%2B")
            versions[fields["Package"]] = f"{version}?arch={fields['Architecture']}"
    owners: dict[Path, str] = {}
    for listing in sorted((_DPKG / "info").glob("*.list")):
        package = listing.stem.partition(":")[0]
        for line in listing.read_text().splitlines():
            path = Path(line)
            purl = f"pkg:deb/{system}/{package}@{versions.get(package, '')}"
            owners.setdefault(path.parent.resolve() / path.name, purl)
    return owners


def _copy_copyright(purl: str, out: Path) -> None:
    if purl.startswith("pkg:deb/"):
        package = purl.split("/")[2].partition("@")[0]
        path = Path("/", _COPYRIGHT.format(package))
        target = out / _COPYRIGHT.format(package)
        if path.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
