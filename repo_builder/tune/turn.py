"""One tuning at a time on a machine: two would each measure the other's load."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator

_NAME = "\0repo-builder-tune"
"""An abstract Unix socket: the kernel lets it go with its process, however that ends."""
_CREDENTIALS = struct.Struct("3i")


@contextlib.contextmanager
def taken(tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the machine's one place for tunings; waits while another process has it, and says so."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as place:
        while True:
            try:
                place.bind(_NAME)
            except OSError:
                _wait(tell)
            else:
                break
        place.listen(64)
        yield


def _wait(tell: Callable[[str], None]) -> None:
    """Wait until the process that has the place ends it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        try:
            caller.connect(_NAME)
        except ConnectionRefusedError:  # bound and not yet listening, or just ended
            return
        told = caller.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid = _CREDENTIALS.unpack(told)[0]
        tell(f"process {pid} is tuning on this machine: waiting until it has ended")
        with contextlib.suppress(ConnectionResetError):
            caller.recv(1)
