"""A headless Chromium, driven over its DevTools protocol through a pipe, with nothing installed.

with Browser() as browser:
    page = browser.open(address, width=390, height=844, dark=True)
    page.run("document.title")
    page.screenshot(file)
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = shutil.which("chromium")
"""Debian's; None where it is not installed."""

_ANSWER_S = 60.0
_MARGIN = 12
"""Pixels above what a screenshot begins with."""
_ABOVE_STANDARD = 10
"""Chromium reads commands from descriptor 3 and answers on 4, so ours lie higher."""
_QUIET = (
    "--headless",
    "--no-sandbox",  # it is root in containers; it sees only pages that we wrote
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-pipe",
)


class BrowserError(Exception):
    """Chromium ended, did not answer in time, or refused what it was asked."""


class Browser:
    """The process. It ends, and its profile goes, with the `with` block."""

    def __enter__(self) -> Browser:
        if CHROMIUM is None:
            raise BrowserError("chromium is not installed")
        self._profile = tempfile.mkdtemp(prefix="chromium-")
        theirs_in, self._out = _pipe()
        self._in, theirs_out = _pipe()
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._pid = os.posix_spawn(
            CHROMIUM,
            [CHROMIUM, *_QUIET, f"--user-data-dir={self._profile}", "about:blank"],
            {**os.environ, "HOME": self._profile},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, null, 0),
                (os.POSIX_SPAWN_DUP2, null, 1),
                (os.POSIX_SPAWN_DUP2, null, 2),
                (os.POSIX_SPAWN_DUP2, theirs_in, 3),
                (os.POSIX_SPAWN_DUP2, theirs_out, 4),
            ],
            setpgroup=0,
        )
        for descriptor in (theirs_in, theirs_out, null):
            os.close(descriptor)
        self._rest = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._out)
        os.close(self._in)
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(
        self, address: str, *, width: int, height: int, dark: bool = False, scripts: bool = True
    ) -> Page:
        """The page at `address`, loaded, in a window of `width` x `height` px."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session, width)
        for domain in ("Page", "Network", "Log"):
            page.ask(f"{domain}.enable")
        phone = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        page.ask("Emulation.setDeviceMetricsOverride", **size)
        page.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        page.ask("Emulation.setEmulatedMedia", features=[scheme])
        page.ask("Page.navigate", url=address)
        self.wait("Page.loadEventFired", session)
        return page

    def ask(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """The result of a command of the protocol."""
        self._number += 1
        command = {"id": self._number, "method": method, "params": params}
        if session:
            command["sessionId"] = session
        os.write(self._out, json.dumps(command).encode() + b"\0")
        deadline = time.monotonic() + _ANSWER_S
        while True:
            message = self._next(deadline, method)
            if message.get("id") == self._number:
                if "error" in message:
                    raise BrowserError(f"{method}: {message['error']}")
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def wait(self, event: str, session: str) -> None:
        """Until `event` was told of the session."""
        deadline = time.monotonic() + _ANSWER_S
        while not self.of(event, session):
            self.events.append(self._next(deadline, event))

    def of(self, event: str, session: str) -> list[dict[str, Any]]:
        """What was told by `event` so far."""
        return [
            one["params"]
            for one in self.events
            if (one.get("method"), one.get("sessionId")) == (event, session)
        ]

    def _next(self, deadline: float, what: str) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise BrowserError(f"no answer to {what} within {_ANSWER_S:g} s")
            more = os.read(self._in, 1 << 20)
            if not more:
                raise BrowserError(f"Chromium ended before it answered {what}")
            self._rest += more
        first, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(first)
        return message


@dataclass
class Page:
    """A loaded page."""

    browser: Browser
    session: str
    width: int

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol to this page."""
        return self.browser.ask(method, self.session, **params)

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        done = self.ask("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in done:
            raise BrowserError(str(done["exceptionDetails"]))
        return done["result"].get("value")

    def requests(self) -> list[str]:
        """Every address that the page asked for."""
        told = self.browser.of("Network.requestWillBeSent", self.session)
        return [one["request"]["url"] for one in told]

    def complaints(self) -> list[str]:
        """What Chromium has to say of the page: errors, blocked scripts."""
        return [one["entry"]["text"] for one in self.browser.of("Log.entryAdded", self.session)]

    def screenshot(self, file: Path, height: int, start: str = "body") -> None:
        """A part of the page as PNG: `height` px from where what `start` selects begins."""
        place = f"document.querySelector({start!r}).getBoundingClientRect().top + scrollY"
        top = max(0, int(self.run(place)) - _MARGIN) if start != "body" else 0
        whole = int(self.run("document.documentElement.scrollHeight"))
        size = {"width": self.width, "height": min(height, whole - top)}
        clip = {"x": 0, "y": top, **size, "scale": 1}
        taken = self.ask("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        file.write_bytes(base64.b64decode(taken["data"]))


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are out of the way of the descriptors that Chromium gets."""
    ends = []
    for end in os.pipe():
        ends.append(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, _ABOVE_STANDARD))
        os.close(end)
    return ends[0], ends[1]
