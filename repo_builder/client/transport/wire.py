"""Requests and responses as bytes, with no copy that can be spared.

Protobuf messages concatenate: a prepared header (names, types, shapes), then the deadline, then
the tensors' bytes are each a valid part of one ModelInferRequest. So the header is made once per
signature, and a tensor is copied once, into the request.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2
from tritonclient.utils import (
    deserialize_bf16_tensor,
    deserialize_bytes_tensor,
    serialize_bf16_tensor,
    serialize_byte_tensor,
)

from repo_builder.client.errors import InvalidInput, ServerFailed
from repo_builder.client.models.tensors import DTYPES, Batch, Signature

Array = npt.NDArray[Any]
# A part of a tensor's bytes in a shared memory region: region, offset, size.
RegionSlice = tuple[str, int, int]

SERVICE = "/inference.GRPCInferenceService/"
_MAX_HEADERS = 64
_MAX_BYTES = 2**31 - 1  # of a message that a server takes
_COPY_BELOW = 32 * 1024  # below this, tobytes is quicker than a memory view


def infer_request(
    model: str,
    version: str,
    batch: Batch,
    timeout: float,
    slices: tuple[RegionSlice, ...] = (),
    outputs: tuple[tuple[str, RegionSlice | None], ...] = (),
) -> bytes:
    """A ModelInferRequest that the server may drop from its queue after `timeout` seconds.

    With `slices` (one per input) the tensors are in shared memory. `outputs` are the ones wanted,
    with their slice of a region, or None for the wire; empty is all, over the wire. InvalidInput
    where it is larger than a server takes.
    """
    signature = batch.signature
    key = (model, version, slices, outputs)
    header = signature.headers.get(key)
    if header is None:
        if len(signature.headers) >= _MAX_HEADERS:
            signature.headers.clear()
        header = signature.headers[key] = _header(model, version, signature, slices, outputs)
    parts: list[Any] = [header, _timeout(_milliseconds(timeout))]
    if slices:
        return b"".join(parts)
    for tensor, array in zip(signature.tensors, batch.arrays, strict=True):
        data = _payload(tensor.datatype, array)
        parts += (_length(len(data)), data)
    size = sum(map(len, parts))
    if size > _MAX_BYTES:
        raise InvalidInput(
            f"model '{model}': the request has {size} bytes, a server takes at most {_MAX_BYTES}; "
            "send fewer rows at once"
        )
    return b"".join(parts)


def config_request(model: str, version: str) -> bytes:
    """A ModelConfigRequest; `version` is Triton's number, "" the latest."""
    return bytes(service_pb2.ModelConfigRequest(name=model, version=version).SerializeToString())


def index_request() -> bytes:
    """A RepositoryIndexRequest: all models that the server has."""
    return bytes(service_pb2.RepositoryIndexRequest().SerializeToString())


def _header(
    model: str,
    version: str,
    signature: Signature,
    slices: Sequence[RegionSlice],
    outputs: Sequence[tuple[str, RegionSlice | None]],
) -> bytes:
    message = service_pb2.ModelInferRequest(model_name=model, model_version=version)
    for i, (tensor, shape) in enumerate(zip(signature.tensors, signature.shapes, strict=True)):
        item = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=shape)
        if slices:
            _put_slice(item, slices[i])
    for name, region_slice in outputs:
        item = message.outputs.add(name=name)
        if region_slice:
            _put_slice(item, region_slice)
    return bytes(message.SerializeToString())


def _put_slice(item: Any, region_slice: RegionSlice) -> None:
    region, offset, size = region_slice
    item.parameters["shared_memory_region"].string_param = region
    item.parameters["shared_memory_byte_size"].int64_param = size
    if offset:
        item.parameters["shared_memory_offset"].int64_param = offset


def _milliseconds(seconds: float) -> int:
    # Whole milliseconds, so that calls with the same deadline have the same bytes.
    return max(1, int(seconds * 1e3 + 0.5))


@lru_cache(maxsize=4096)
def _timeout(milliseconds: int) -> bytes:
    """`parameters["timeout"] = int64 microseconds`, as the bytes of one map entry (field 4)."""
    value = b"\x10" + _varint(milliseconds * 1000)
    entry = b"\x0a\x07timeout\x12" + bytes((len(value),)) + value
    return b"\x22" + bytes((len(entry),)) + entry


@lru_cache(maxsize=4096)
def _length(size: int) -> bytes:
    """The tag and length before the bytes of one tensor (`raw_input_contents`, field 7)."""
    return b"\x3a" + _varint(size)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _payload(datatype: str, array: Array) -> Any:
    if datatype == "BYTES":
        packed = serialize_byte_tensor(array)
        return packed.item() if packed.size else b""
    if datatype == "BF16":
        packed = serialize_bf16_tensor(array)
        return packed.item() if packed.size else b""
    if array.nbytes < _COPY_BELOW:
        return array.tobytes()
    flat: Any = array.reshape(-1).view(np.uint8)
    return memoryview(flat)


def decode_outputs(model: str, response: Any, elsewhere: Collection[str] = ()) -> dict[str, Array]:
    """The outputs that came over the wire, read-only; those `elsewhere` left an empty place.

    ServerFailed where the answer has fewer tensors than it says.
    """
    raw = response.raw_output_contents
    if len(raw) != len(response.outputs) and any(o.name not in elsewhere for o in response.outputs):
        raise ServerFailed(
            f"model '{model}': {len(response.outputs)} outputs were announced, {len(raw)} came"
        )
    return {
        output.name: _array(output.datatype, tuple(output.shape), raw[i])
        for i, output in enumerate(response.outputs)
        if output.name not in elsewhere
    }


def with_row_axis(model: str, outputs: dict[str, Array], rows: int | None) -> dict[str, Array]:
    """`outputs` with a row axis first: checked to be `rows` long, or added where `rows` is None."""
    if rows is None:
        return {name: array[None] for name, array in outputs.items()}
    for name, array in outputs.items():
        if array.shape[:1] != (rows,):
            raise ServerFailed(
                f"model '{model}': {rows} rows were sent, output '{name}' came back with shape "
                f"{list(array.shape)}"
            )
    return outputs


def _array(datatype: str, shape: tuple[int, ...], data: bytes) -> Array:
    if datatype == "BYTES":
        return np.asarray(deserialize_bytes_tensor(data)).reshape(shape)
    if datatype == "BF16":
        return np.asarray(deserialize_bf16_tensor(data)).reshape(shape)
    return np.frombuffer(data, DTYPES[datatype]).reshape(shape)
