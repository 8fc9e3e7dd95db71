"""Deltas between two versions of a model's file that know what a weight is.

    made = make(old, new, Path("digits.delta"))          # where the files are
    apply(delta_stream, base, out, digest, length)       # on the device: numpy and zstd only

A delta is a stream of blocks; each says where the bytes of the result come from: copied from the
base, the base's numbers plus differences, or sent whole. It is exact to the bit; the format is in
docs/delta-format.md. `apply` is the device's half and knows no kind of file. `make` is the
server's: it looks into ONNX, TFLite and OpenVINO files (`parsers/`), aligns old and new (`align`),
tries several ways and keeps the smallest. Who gets which delta is for other rooms of `release/`.
"""

from __future__ import annotations

from repo_builder.release.delta.apply import Place, apply
from repo_builder.release.delta.artifact import between, pairs
from repo_builder.release.delta.layout import Header, read_header
from repo_builder.release.delta.make import Made, make, pack

__all__ = ["Header", "Made", "Place", "apply", "between", "make", "pack", "pairs", "read_header"]
