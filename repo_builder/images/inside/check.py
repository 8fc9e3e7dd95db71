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
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_ED25519 = 1087  # NID_ED25519 of OpenSSL
# The DER of a SubjectPublicKeyInfo for Ed25519, up to the key itself (RFC 8410).
_PREFIX = bytes.fromhex("302a300506032b6570032100")
_CHUNK = 1 << 20


def models(manifest: bytes, folder: Path) -> list[str]:
    """What is wrong with the models in `folder`: changed, missing and unexpected files."""
    try:
        expected = {
            f"{model}/{name}": (sha256, size)
            for model, record in json.loads(manifest)["models"].items()
            for name, (sha256, size) in record["files"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"the manifest is damaged: {error!r}"]
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


def signature(manifest: bytes, envelope: Path, trusted: dict[str, bytes]) -> list[str]:
    """What is wrong with the signature of `manifest`; `trusted` maps key ids to raw public keys."""
    try:
        signed = json.loads(envelope.read_bytes())
        key, value = str(signed["key"]), base64.b64decode(signed["signature"], validate=True)
    except FileNotFoundError:
        return ["the manifest is not signed, and this device trusts only signed ones"]
    except (ValueError, KeyError, TypeError) as error:
        return [f"{envelope.name} is damaged: {error!r}"]
    if key not in trusted:
        known = ", ".join(sorted(trusted))
        return [f"the manifest is signed by key {key}, which is not trusted here; trusted: {known}"]
    if not ed25519(trusted[key], value, manifest):
        return [f"the signature by key {key} does not fit the manifest"]
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


def _digest(path: Path) -> tuple[str, int]:
    if path.is_symlink() or not path.is_file():
        return "", 0
    state, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            state.update(chunk)
            size += len(chunk)
    return state.hexdigest(), size
