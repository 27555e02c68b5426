"""A headless Chromium, driven over the pipe of its DevTools protocol: nothing else needs to be installed.

The protocol is at https://chromedevtools.github.io/devtools-protocol/.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *(
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
    ),
    *("--disable-extensions", "--remote-debugging-pipe", "--force-color-profile=srgb"),
)
PATIENCE_S = 60.0


def find_chromium() -> str | None:
    """Return the path of an installed Chromium, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for path in map(shutil.which, names) if path), None)


class Browser:
    """One page of a browser; close it, or use it in a ``with`` block.

    Attributes
    ----------
    complaints
        Everything that went wrong since the page was opened: exceptions, errors and warnings of the console, refused
        requests.
    requested
        Addresses that the page asked for, itself included.
    """

    def __init__(self, program: str) -> None:
        self.complaints: list[str] = []
        self.requested: list[str] = []
        self._home = tempfile.TemporaryDirectory(prefix="servesim-browser-", ignore_cleanup_errors=True)
        told_r, told_w = os.pipe()
        answers_r, answers_w = os.pipe()
        # Chromium reads commands from its descriptor 3 and writes answers to 4.
        shell = f'exec "$0" "$@" 3<&{told_r} 4>&{answers_w}'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", shell, program, *FLAGS, f"--user-data-dir={self._home.name}", "about:blank"],
            pass_fds=(told_r, answers_w),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(told_r)
        os.close(answers_w)
        self._told, self._answers, self._buffer, self._number = told_w, answers_r, b"", 0
        self._session: str | None = None
        targets = self.call("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._told, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def _receive(self) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(deadline - time.monotonic(), 0.0))
            piece = os.read(self._answers, 1 << 20) if ready else b""
            assert piece, "the browser is gone, or does not answer"
            self._buffer += piece
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, event: str, details: dict[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            thrown = details["exceptionDetails"]
            self.complaints.append(str(thrown.get("exception", {}).get("description", thrown["text"])))
        elif event == "Runtime.consoleAPICalled" and details["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(part.get("value", part)) for part in details["args"]))
        elif event == "Log.entryAdded" and details["entry"]["level"] in ("error", "warning"):
            self.complaints.append(details["entry"]["text"])
        elif event == "Network.requestWillBeSent":
            self.requested.append(details["request"]["url"])

    def show(self, *, width: int, dark: bool = False, height: int = 900) -> None:
        """Set the size of the window and the colours that the reader prefers."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, path: Path) -> None:
        """Open a file, and wait until it has loaded."""
        self.complaints.clear()
        self.requested.clear()
        self.call("Page.navigate", url=path.resolve().as_uri())
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression, once it is settled if it is a promise."""
        outcome = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in outcome, outcome["exceptionDetails"]
        return outcome["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.run(condition):
            assert time.monotonic() < deadline, f"never true: {condition}; {self.complaints}"
            time.sleep(0.05)

    def mouse(self, kind: str, x: float, y: float, *, held: bool = False, clicks: int = 1) -> None:
        """Move the mouse, or press or release its left button: mouseMoved, mousePressed, mouseReleased."""
        button = "left" if held or kind != "mouseMoved" else "none"
        self.call(
            "Input.dispatchMouseEvent",
            type=kind,
            x=x,
            y=y,
            button=button,
            buttons=1 if held else 0,
            clickCount=0 if kind == "mouseMoved" else clicks,
        )

    def screenshot(self, path: Path, *, whole: bool = True) -> None:
        """Save what the page looks like, the whole of it or what the window shows."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def close(self) -> None:
        """End the browser."""
        if self._process.poll() is None:
            try:
                self._session = None
                self.call("Browser.close")
            except (AssertionError, OSError):
                self._process.kill()
        self._process.wait(timeout=PATIENCE_S)
        os.close(self._told)
        os.close(self._answers)
        self._home.cleanup()
