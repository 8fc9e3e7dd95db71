"""Keys, signatures, and the check of a folder or an image against them.

A signature is Ed25519 (RFC 8032) over the bytes of a file, kept beside it as `FILE.sig`. Signed are
the manifest, which holds the digest of every model file; `plans.json`, which adds TensorRT plans
that were made with the image; and `image.json`, which holds the layers and the settings below the
models. The container checks the first two; `verify` all.
"""

from __future__ import annotations

import base64
import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repo_builder.base import digest
from repo_builder.base.errors import MissingExtra, Problem, TrustError, UsageError, did_you_mean
from repo_builder.images.archive import SavedImage
from repo_builder.images.inside import check

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HOME = "etc/repo-builder"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Key:
    """A signing key: its name, its private and its public file."""

    name: str
    private: Path
    public: Path

    @property
    def pem(self) -> bytes:
        """The public key as PEM."""
        return self.public.read_bytes()

    def sign(self, content: bytes) -> bytes:
        """The signature file for some bytes."""
        key = _load(self.private)
        envelope = {
            "key": check.key_id(key.public_key().public_bytes_raw()),
            "signature": base64.b64encode(key.sign(content)).decode(),
        }
        return json.dumps(envelope, indent=1, sort_keys=True).encode() + b"\n"


def keys_folder() -> Path:
    """Where keys are: $REPO_BUILDER_KEYS, or below the user's configuration."""
    if own := os.environ.get("REPO_BUILDER_KEYS"):
        return Path(own).absolute()
    return Path(
        os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config", "repo-builder", "keys"
    )


def new_key(name: str, folder: Path | None = None) -> Key:
    """Make a key; the private file is readable by its owner alone. Never replaces one."""
    try:
        from cryptography.hazmat.primitives import serialization as form
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError:
        raise MissingExtra("images", "making keys") from None
    if not _NAME.fullmatch(name):
        raise UsageError(f"'{name}' is no key name; use letters, digits, '.', '_', '-'")
    folder = folder or keys_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = Key(name, folder / f"{name}.key", folder / f"{name}.pub")
    secret = Ed25519PrivateKey.generate()
    private = secret.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    try:
        file = os.open(key.private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise UsageError(
            f"{key.private} exists; a key is never replaced, choose a new name"
        ) from None
    with os.fdopen(file, "wb") as out:
        out.write(private)
    key.public.write_bytes(
        secret.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    )
    return key


def key(name: str) -> Key:
    """The signing key called `name`; UsageError where there is none."""
    folder = keys_folder()
    found = Key(name, folder / f"{name}.key", folder / f"{name}.pub")
    if not (found.private.is_file() and found.public.is_file()):
        known = [path.stem for path in folder.glob("*.key")]
        hint = did_you_mean(name, known) or f"make it: repo-builder keys new {name}"
        raise UsageError(f"no key '{name}' in {folder}; {hint}")
    return found


def public_keys(files: Sequence[Path] = ()) -> dict[str, bytes]:
    """Key id -> raw public key, of `files`, or of the keys folder where none are given."""
    if not files:
        return check.trusted_keys(keys_folder())
    found = {}
    for path in files:
        try:
            found.update(check.read_key(path))
        except (OSError, ValueError) as failure:
            raise UsageError(f"{path}: not a public key (PEM, Ed25519): {failure}") from None
    return found


def verify_folder(folder: Path, trusted: Mapping[str, bytes]) -> str:
    """Check a built folder; returns the manifest's digest, raises TrustError with all problems."""
    path = folder / "manifest.json"
    if not path.is_file():
        raise UsageError(f"{path}: not there; give an image, or a folder that a build made")
    text = path.read_bytes()
    problems = check.signatures(text, b"", folder, trusted)
    problems += check.models(text, folder / "models")
    _raise(str(folder), problems)
    return digest.of_bytes(text)


def verify_image(name: str, image: SavedImage, trusted: Mapping[str, bytes]) -> str:
    """Check a saved image; returns its manifest's digest, raises TrustError with all problems.

    Beside the models: that nothing but what was signed lies below them, that the settings are the
    signed ones, and that the upper layers hold models and trust data only.
    """
    files = image.read("models/", f"{HOME}/")
    with tempfile.TemporaryDirectory() as place:
        for path, content in files.items():
            target = Path(place, path)
            if not target.resolve().is_relative_to(Path(place).resolve()):
                raise TrustError(f"{name}: the image holds the path '{path}'")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        home = Path(place, HOME)
        text = files.get(f"{HOME}/manifest.json", b"")
        problems = [] if text else ["it has no manifest; repo-builder did not make it"]
        if text:
            made = files.get(f"{HOME}/plans.json", b"")
            problems += check.signatures(text, made, home, trusted)
            if trusted:
                problems += _below(image, home, trusted)
            Path(place, "models").mkdir(exist_ok=True)
            problems += check.models(text, Path(place, "models"), made)
    _raise(name, problems)
    return digest.of_bytes(text)


def statement(diff_ids: Sequence[str], config: Mapping[str, Any]) -> bytes:
    """`image.json`: the layers below the models, and the settings that containers start with."""
    settings = {name: value for name, value in config.items() if name != "Labels"}
    return digest.canonical({"layers": list(diff_ids), "settings": settings}) + b"\n"


def _below(image: SavedImage, home: Path, trusted: Mapping[str, bytes]) -> list[str]:
    path = home / "image.json"
    if not path.is_file():
        return ["it has no image.json, so what lies below the models is not signed"]
    text = path.read_bytes()
    problems = check.signature(text, home / "image.json.sig", trusted, "image.json")
    if problems:
        return problems
    count = len(json.loads(text)["layers"])
    config = {k: v for k, v in image.config["config"].items() if v not in (None, "", [], {}, False)}
    if statement(image.diff_ids[:count], config) != text:
        return ["the layers below the models, or the container's settings, are not the signed ones"]
    return [
        f"/{path} lies in a layer above the signed ones"
        for sizes in image.sizes()[count:]
        for path in sizes
        if not path.startswith(("models/", f"{HOME}/"))
    ]


def _raise(what: str, problems: Sequence[str]) -> None:
    if problems:
        raise TrustError(f"{what} is not what was signed:", [Problem(text) for text in problems])


def _load(path: Path) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError:
        raise MissingExtra("images", "signing") from None
    try:
        loaded = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as failure:
        raise UsageError(f"{path}: not a private key (PEM): {failure}") from None
    if not isinstance(loaded, Ed25519PrivateKey):
        raise UsageError(f"{path}: not an Ed25519 key; make one: repo-builder keys new NAME")
    return loaded
