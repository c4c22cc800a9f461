"""Chromium without a screen, told what to do over two pipes in its own DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

DEADLINE = 60.0
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"),
)
# It reads commands from its descriptor 3 and writes answers to 4.
_WITH_PIPES = (
    "import os, sys; a, b = map(int, sys.argv[1:3]); a, b = os.dup(a), os.dup(b); "
    "os.dup2(a, 3); os.dup2(b, 4); os.set_inheritable(3, True); os.set_inheritable(4, True); "
    "os.execvp(sys.argv[3], sys.argv[3:])"
)


class Browser:
    """One tab of it."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._rest = b""
        self._number = 0
        self._session = ""
        self.said: list[str] = []  # what the page complains of
        self.asked: list[str] = []  # what it fetches
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **parameters: object) -> dict[str, Any]:
        """What the browser answers to a command of its protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self._hear(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            piece = os.read(self._answers, 1 << 20)
            assert piece, "Chromium has ended"
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _hear(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.asked.append(parameters["request"]["url"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self.said.append(json.dumps(parameters["exceptionDetails"]))
        elif event.get("method") == "Log.entryAdded":
            self.said.append(parameters["entry"]["text"])

    def screen(self, width: int, scheme: str = "light") -> None:
        """Be so wide, in CSS pixels, and light or dark."""
        size = {"width": width, "height": 812, "deviceScaleFactor": 1, "mobile": width < 600}
        self("Emulation.setDeviceMetricsOverride", **size)
        preferred = [{"name": "prefers-color-scheme", "value": scheme}]
        self("Emulation.setEmulatedMedia", features=preferred)

    def open(self, url: str) -> None:
        self.said.clear()
        self.asked.clear()
        self("Page.navigate", url=url)

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript is, in the page."""
        result = self(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until an expression is true."""
        tries = Retrying(
            retry=retry_if_result(lambda found: not found),
            stop=stop_after_delay(DEADLINE),
            wait=wait_fixed(0.05),
        )
        tries(lambda: self.value(expression))

    def picture(self, file: Path) -> None:
        """Write the whole page, not only what fits the screen, as a PNG."""
        answer = self("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(answer["data"]))


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """A browser with a new profile in ``folder``; it has ended at the end."""
    from_us, to_it = os.pipe()
    from_it, to_us = os.pipe()
    argv = ["/usr/bin/chromium", *_FLAGS, f"--user-data-dir={folder}"]
    process = subprocess.Popen(
        [sys.executable, "-c", _WITH_PIPES, str(from_us), str(to_us), *argv],
        pass_fds=[from_us, to_us],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(from_us)
    os.close(to_us)
    try:
        yield Browser(to_it, from_it)
    finally:
        os.close(to_it)  # at which it ends
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(from_it)
