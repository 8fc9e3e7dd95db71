"""Checks a model folder against its manifest, and a manifest against its Ed25519 signature.

Runs in the container before Triton, on the device, and under `repo-builder verify`: it needs
Python 3.9 and nothing else. The signature is checked by OpenSSL's own libcrypto, which every image
with a Triton has.
"""

from __future__ import annotations

import base64
import ctypes
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_ED25519 = 1087  # NID_ED25519 of OpenSSL
# The DER of a SubjectPublicKeyInfo for Ed25519, up to the key itself (RFC 8410).
_PREFIX = bytes.fromhex("302a300506032b6570032100")
_CHUNK = 1 << 20
# Beside a model: what asks for a TensorRT plan, and what building one adds (repo_builder.trt).
_REQUEST, _FITS = "tensorrt.json", "portability.json"
_MADE = ("model.plan", _FITS)


Files = dict[str, tuple[str, int]]  # path below the models -> sha256, bytes


def models(manifest: bytes, folder: Path, made: bytes = b"") -> list[str]:
    """What is wrong with the models in `folder`: changed, missing and unexpected files.

    `made` is the record of plans that were made after the manifest (`record_plans`).
    """
    try:
        expected = _files_of(manifest)
    except ValueError as error:
        return [str(error)]
    if made:
        problems = plans(manifest, folder, made)
        if problems:
            return problems
        expected.update(files_made(made))
    return _differences(expected, folder)


def record_plans(manifest: bytes, folder: Path) -> bytes:
    """`plans.json`: the plans in `folder` that a manifest asks for and does not hold."""
    expected = _files_of(manifest)
    made = {
        name: _digest(folder / name)
        for request in sorted(expected)
        if request.endswith("/" + _REQUEST)
        for name in (request[: -len(_REQUEST)] + file for file in _MADE)
        if name not in expected and (folder / name).exists()
    }
    return json.dumps({"manifest": _sha256(manifest), "files": made}, indent=1).encode() + b"\n"


def plans(manifest: bytes, folder: Path, made: bytes) -> list[str]:
    """What is wrong with `plans.json`: not of this manifest, foreign files, other models.

    It may add plans, with what they fit, where the manifest asks for one, and nothing else.
    """
    try:
        expected, files = _files_of(manifest), files_made(made)
        if json.loads(made)["manifest"] != _sha256(manifest):
            return ["plans.json belongs to another manifest"]
    except (ValueError, KeyError, TypeError) as error:
        return [f"plans.json is damaged: {error!r}"]
    problems = []
    for name in files:
        home, _, file = name.rpartition("/")
        if file not in _MADE or f"{home}/{_REQUEST}" not in expected or name in expected:
            problems.append(f"{name}: plans.json may not add it")
        elif file == _FITS:
            try:
                source = json.loads((folder / name).read_bytes())["record"]["model"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                problems.append(f"{name}: damaged: {error!r}")
                continue
            if source != expected.get(f"{home}/model.onnx", ("", 0))[0]:
                problems.append(f"{name}: the plan was built from another model")
    return problems


def _files_of(manifest: bytes) -> Files:
    try:
        return {
            f"{model}/{name}": (sha256, size)
            for model, record in json.loads(manifest)["models"].items()
            for name, (sha256, size) in record["files"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the manifest is damaged: {error!r}") from None


def files_made(made: bytes) -> Files:
    """What `plans.json` adds; ValueError where it is damaged."""
    try:
        return {name: (sha, size) for name, (sha, size) in json.loads(made)["files"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(repr(error)) from None


def _differences(expected: Files, folder: Path) -> list[str]:
    present = set(_files(folder))
    problems = [f"{name}: missing" for name in sorted(expected.keys() - present)]
    problems += [f"{name}: not in the manifest" for name in sorted(present - expected.keys())]
    both = sorted(expected.keys() & present)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda name: _digest(folder / name), both)
        for name, (sha256, size) in zip(both, found):  # noqa: B905 (Python 3.9)
            if not sha256:
                problems.append(f"{name}: not a regular file")
            elif (sha256, size) != tuple(expected[name]):
                problems.append(
                    f"{name}: sha256 {sha256[:12]}, {size} B; "
                    f"the manifest says {expected[name][0][:12]}, {expected[name][1]} B"
                )
    return problems


def signatures(
    manifest: bytes, made: bytes, folder: Path, trusted: Mapping[str, bytes]
) -> list[str]:
    """What is wrong with the signatures in `folder`: the manifest's, and that of `plans.json`.

    `made` is `plans.json`, or empty. Nothing is wrong where no key is `trusted`.
    """
    if not trusted:
        return []
    problems = signature(manifest, folder / "manifest.json.sig", trusted)
    if made:
        problems += signature(made, folder / "plans.json.sig", trusted, "plans.json")
    return problems


def signature(
    content: bytes, envelope: Path, trusted: Mapping[str, bytes], what: str = "the manifest"
) -> list[str]:
    """What is wrong with the signature of `content`, which messages call `what`.

    `trusted` maps key ids to raw public keys.
    """
    try:
        signed = json.loads(envelope.read_bytes())
        key, value = str(signed["key"]), base64.b64decode(signed["signature"], validate=True)
    except FileNotFoundError:
        return [f"{what} is not signed, and this device trusts only signed ones"]
    except (ValueError, KeyError, TypeError) as error:
        return [f"{envelope.name} is damaged: {error!r}"]
    if key not in trusted:
        known = ", ".join(sorted(trusted))
        return [f"{what} is signed by key {key}, which is not trusted here; trusted: {known}"]
    if not ed25519(trusted[key], value, content):
        return [f"the signature by key {key} does not fit {what}"]
    return []


def trusted_keys(folder: Path) -> dict[str, bytes]:
    """Key id -> raw public key, for every PEM file (`*.pub`) of a folder."""
    # By a call that raises: neither `glob` nor `exists` tells a folder that may not be read from
    # one that is not there, and what cannot be checked must not pass.
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208
    except FileNotFoundError:
        return {}
    keys: dict[str, bytes] = {}
    for name in names:
        if name.endswith(".pub"):
            keys.update(read_key(folder / name))
    return keys


def read_key(path: Path) -> dict[str, bytes]:
    """Key id -> raw public key of one PEM file; ValueError where it holds no Ed25519 key."""
    body = [line for line in path.read_text().splitlines() if not line.startswith("-")]
    form = base64.b64decode("".join(body), validate=True)
    if not form.startswith(_PREFIX) or len(form) != len(_PREFIX) + 32:
        raise ValueError(f"{path} holds no Ed25519 public key")
    raw = form[len(_PREFIX) :]
    return {key_id(raw): raw}


def key_id(raw: bytes) -> str:
    """The short name of a public key: the first 16 hex digits of its sha256."""
    return hashlib.sha256(raw).hexdigest()[:16]


def ed25519(public: bytes, value: bytes, message: bytes) -> bool:
    """Whether `value` is the signature of `message` by `public` (32 bytes), says libcrypto."""
    crypto = ctypes.CDLL("libcrypto.so.3")
    for name in ("EVP_PKEY_new_raw_public_key", "EVP_MD_CTX_new"):
        getattr(crypto, name).restype = ctypes.c_void_p
    key = ctypes.c_void_p(
        crypto.EVP_PKEY_new_raw_public_key(_ED25519, None, public, ctypes.c_size_t(len(public)))
    )
    context = ctypes.c_void_p(crypto.EVP_MD_CTX_new())
    try:
        return bool(key and context) and (
            crypto.EVP_DigestVerifyInit(context, None, None, None, key) == 1
            and crypto.EVP_DigestVerify(
                context,
                value,
                ctypes.c_size_t(len(value)),
                message,
                ctypes.c_size_t(len(message)),
            )
            == 1
        )
    finally:
        crypto.EVP_MD_CTX_free(context)
        crypto.EVP_PKEY_free(key)


def _files(folder: Path) -> Iterator[str]:
    """Every path below `folder` that is no real folder: a link counts as a file of its own."""
    for here, folders, names in os.walk(folder, onerror=_raise):
        links = [name for name in folders if (Path(here) / name).is_symlink()]
        for name in names + links:
            yield (Path(here) / name).relative_to(folder).as_posix()


def _raise(error: OSError) -> None:
    raise error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest(path: Path) -> tuple[str, int]:
    if path.is_symlink() or not path.is_file():
        return "", 0
    state, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
            size += len(chunk)
    return state.hexdigest(), size
