"""The health check of an image, which has neither a shell nor curl: ready, or exit code 1."""

import http.client
import os
import sys


def main() -> None:
    """Ask Triton on loopback whether the server and all its models are ready."""
    port = int(os.environ.get("TRITON_HTTP_PORT", "8000"))
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/v2/health/ready")
        ready = connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        ready = False
    sys.exit(0 if ready else 1)


if __name__ == "__main__":
    main()
