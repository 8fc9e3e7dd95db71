"""A TCP proxy on loopback that misbehaves on demand; what a network does to a client, for real."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time


class Proxy:
    """Forwards to `target` ("host:port"). Faults are attributes that may be set at any time.

    delay        seconds that each piece of data waits, both ways
    rate         bytes per second, both ways; 0 is without limit
    blackhole    nothing is forwarded, connections stay open
    stall_after  forward so many bytes of answers, then nothing more; -1 is off
    refuse       new connections are reset at once
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self.target = (host, int(port))
        self.delay = 0.0
        self.rate = 0
        self.blackhole = False
        self.stall_after = -1
        self.refuse = False
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._closed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        # Wakes the accept call, which a close alone does not.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Close all connections."""
        self._end(reset=False)

    def reset(self) -> None:
        """Reset all connections (RST)."""
        self._end(reset=True)

    def _end(self, *, reset: bool) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for one in pair:
                with contextlib.suppress(OSError):
                    if reset:
                        linger = struct.pack("ii", 1, 0)
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    else:
                        one.shutdown(socket.SHUT_RDWR)
                    one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                if self.refuse:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    client.close()
                    continue
            except OSError:
                if self._closed:
                    return
                continue
            try:
                server = socket.create_connection(self.target, timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.append((client, server))
            threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        passed = 0
        try:
            while data := source.recv(16384):
                if self.delay:
                    time.sleep(self.delay)
                if self.rate:
                    time.sleep(len(data) / self.rate)
                while data:
                    room = self.stall_after - passed if answers and self.stall_after >= 0 else None
                    if self.blackhole or (room is not None and room <= 0):
                        if self._closed:
                            return
                        time.sleep(0.01)
                        continue
                    sink.sendall(data[:room])
                    passed += len(data[:room])
                    data = data[len(data[:room]) :]
        except OSError:
            pass
        finally:
            for one in (source, sink):
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
