"""TLS, mTLS, headers and tokens: a genuine Triton, and a gRPC server that looks at headers."""

from __future__ import annotations

import shutil
import subprocess
from concurrent import futures
from pathlib import Path
from typing import Any

import client_models as models
import grpc
import numpy as np
import pytest

from repo_builder.client import ClientError, EdgeClient, ServerFailed, Servers, Tls, Unavailable

X = np.array([[10, 0, 0, 7]], np.float32)


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def pki(tmp_path_factory, unavailable) -> Path:
    """An authority, and a certificate each for the server (localhost) and a client."""
    if shutil.which("openssl") is None:
        unavailable("openssl is not installed")
    folder = tmp_path_factory.mktemp("pki")
    new = ["-newkey", "rsa:2048", "-nodes"]
    openssl(
        folder,
        "req",
        "-x509",
        *new,
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=test",
        "-days",
        "2",
    )
    (folder / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name in ("server", "client"):
        openssl(
            folder,
            "req",
            *new,
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        openssl(
            folder,
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-out",
            f"{name}.pem",
            "-days",
            "2",
            "-extfile",
            "san",
        )
    return folder


@pytest.fixture(scope="module")
def secured(pki, module_triton, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("secured")
    models.echo(folder)
    server = module_triton(
        folder,
        extra=[
            "--grpc-use-ssl=true",
            "--grpc-use-ssl-mutual=true",
            f"--grpc-server-cert={pki / 'server.pem'}",
            f"--grpc-server-key={pki / 'server.key'}",
            f"--grpc-root-cert={pki / 'ca.pem'}",
            "--grpc-restricted-protocol=inference:door=open",
        ],
    )
    return str(server.grpc_url)


def test_mutual_tls_and_headers(secured, pki):
    tls = Tls(pki / "ca.pem", pki / "client.pem", pki / "client.key")
    headers = {"triton-grpc-protocol-door": "open"}
    for compression in ("none", "gzip"):
        servers = Servers([secured], tls=tls, headers=headers, compression=compression)
        with EdgeClient(servers) as client:
            assert client.infer("echo", X)["id"].item() == 7
    with EdgeClient(Servers([secured], tls=tls)) as client, pytest.raises(ClientError):
        client.infer("echo", X, timeout=2.0)


def test_a_client_without_a_certificate_or_without_tls_is_not_served(secured, pki):
    for servers in (Servers([secured], tls=Tls(pki / "ca.pem")), Servers([secured])):
        with EdgeClient(servers) as client, pytest.raises(Unavailable):
            client.infer("echo", X, timeout=1.0)


def test_a_server_of_an_unknown_authority_is_not_trusted(secured, pki):
    tls = Tls(None, pki / "client.pem", pki / "client.key")
    with EdgeClient(Servers([secured], tls=tls)) as client, pytest.raises(Unavailable):
        client.infer("echo", X, timeout=1.0)


def test_a_token_is_renewed_by_its_callable():
    seen: list[str] = []

    class Look(grpc.GenericRpcHandler):
        def service(self, details: Any) -> Any:
            seen.append(dict(details.invocation_metadata)["authorization"])
            return grpc.unary_unary_rpc_method_handler(
                lambda _request, context: context.abort(grpc.StatusCode.UNAUTHENTICATED, "no")
            )

    server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[Look()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    numbers = iter(range(100))
    servers = Servers([f"127.0.0.1:{port}"], token=lambda: f"t{next(numbers)}")
    with EdgeClient(servers) as client:
        for _ in range(2):
            with pytest.raises(ServerFailed, match="UNAUTHENTICATED: no"):
                client.infer("echo", X, timeout=2.0)
    server.stop(None)
    assert seen == ["Bearer t0", "Bearer t1"]
