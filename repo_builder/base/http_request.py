"""One HTTP request to a server on this machine or beside it; standard library alone."""

from __future__ import annotations

import http.client
from collections.abc import Mapping


def send(
    address: str,
    method: str,
    path: str,
    *,
    timeout_s: float,
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """Status and body of the answer of `address` (host:port).

    Not by urllib, which would ask the environment's proxy. OSError or http.client.HTTPException
    where no whole answer comes; each wait for it lasts at most `timeout_s`.
    """
    connection = http.client.HTTPConnection(address, timeout=timeout_s)
    try:
        connection.request(method, path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
