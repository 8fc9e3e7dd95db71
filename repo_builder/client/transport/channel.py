"""gRPC channels: their options, credentials, and what goes with every call."""

from __future__ import annotations

from typing import Any

import grpc
from tritonclient.grpc import service_pb2

from repo_builder.client.options import Servers
from repo_builder.client.rules.failure import Failure
from repo_builder.client.transport.wire import SERVICE

# Response types by method; requests are bytes already (wire.py).
RESPONSES = {
    "ServerLive": service_pb2.ServerLiveResponse.FromString,
    "ModelInfer": service_pb2.ModelInferResponse.FromString,
    "ModelConfig": service_pb2.ModelConfigResponse.FromString,
    "RepositoryIndex": service_pb2.RepositoryIndexResponse.FromString,
    "SystemSharedMemoryRegister": service_pb2.SystemSharedMemoryRegisterResponse.FromString,
    "SystemSharedMemoryUnregister": service_pb2.SystemSharedMemoryUnregisterResponse.FromString,
}

# Pings only while a call is under way, and at most two without data in between: servers and
# proxies answer more with GOAWAY "too many pings". A dead connection is found within 30 s, and
# a call never waits for that, as it has its deadline. Repeats are ours (rules/attempts.py), not
# gRPC's.
OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.http2.max_pings_without_data", 2),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_retries", 0),
    # A connection of its own, so that one client's broken connection is not another's.
    ("grpc.use_local_subchannel_pool", 1),
)

COMPRESSION = {
    "none": None,
    "deflate": grpc.Compression.Deflate,
    "gzip": grpc.Compression.Gzip,
}


def open_channel(address: str, servers: Servers, factory: Any) -> Any:
    """A channel to `address`; `factory` is `grpc` or `grpc.aio`."""
    options: list[tuple[str, Any]] = list(OPTIONS)
    tls = servers.tls
    if tls is None:
        return factory.insecure_channel(address, options=options)
    if tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    credentials = grpc.ssl_channel_credentials(
        root_certificates=tls.authority.read_bytes() if tls.authority else None,
        private_key=tls.key.read_bytes() if tls.key else None,
        certificate_chain=tls.certificate.read_bytes() if tls.certificate else None,
    )
    return factory.secure_channel(address, credentials, options=options)


def metadata(servers: Servers) -> tuple[tuple[str, str], ...] | None:
    """The headers of a call; asks for the token anew where it is callable."""
    token = servers.token() if callable(servers.token) else servers.token
    if not token and not servers.headers:
        return None
    pairs = [(key.lower(), value) for key, value in servers.headers.items()]
    if token:
        pairs.append(("authorization", f"Bearer {token}"))
    return tuple(pairs)


def failure(error: grpc.RpcError) -> Failure:
    """gRPC's error as ours."""
    return Failure(error.code().name, error.details() or "")


def methods(channel: Any) -> dict[str, Any]:
    """The calls of Triton's service on `channel`, taking bytes and giving messages."""
    return {
        name: channel.unary_unary(
            SERVICE + name, request_serializer=None, response_deserializer=parse
        )
        for name, parse in RESPONSES.items()
    }
