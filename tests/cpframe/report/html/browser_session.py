"""A headless Chromium, driven through ChromeDriver's plain HTTP interface on the loopback."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SWITCHES = (
    "headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-background-networking",
    "disable-component-update", "disable-sync",
)  # fmt: skip


def missing() -> str:
    """What is not there of what a browser test needs; empty if all is."""
    return ", ".join(name for name in ("chromedriver", "chromium") if shutil.which(name) is None)


@dataclass(frozen=True)
class Browser:
    """One session."""

    address: str

    def _call(self, path: str, body: object) -> Any:
        request = urllib.request.Request(
            self.address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def devtools(self, command: str, **parameters: object) -> Any:
        """A command of the DevTools protocol."""
        return self._call("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def resize(self, width: int, height: int = 800) -> None:
        """Make the viewport as large, in CSS pixels; narrow ones are those of a phone."""
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip

    def prefer(self, scheme: str) -> None:
        """Prefer ``light`` or ``dark`` pages."""
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def open(self, page: Path) -> None:
        """Load a file."""
        self._call("/url", {"url": page.resolve().as_uri()})

    def run(self, script: str) -> Any:
        """What a script returns."""
        return self._call("/execute/sync", {"script": script, "args": []})

    def complaints(self) -> list[str]:
        """What the console has had to say since the last question."""
        return [entry["message"] for entry in self._call("/se/log", {"type": "browser"})]

    def screenshot(self) -> bytes:
        """The whole page as PNG."""
        return base64.b64decode(self.devtools("Page.captureScreenshot", captureBeyondViewport=True)["data"])


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """A browser of our own with a new profile, ended afterwards."""
    binary = shutil.which("chromium")
    with subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True) as driver:
        try:
            assert driver.stdout is not None
            found = (re.search(r"started successfully on port (\d+)", line) for line in driver.stdout)
            port = next(match[1] for match in found if match)
            options = {"binary": binary, "args": [*(f"--{s}" for s in SWITCHES), f"--user-data-dir={profile}"]}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            root = Browser(f"http://127.0.0.1:{port}")
            session = root._call("/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
            try:
                yield Browser(f"{root.address}/session/{session}")
            finally:
                closing = urllib.request.Request(f"{root.address}/session/{session}", method="DELETE")
                urllib.request.urlopen(closing, timeout=60).close()
        finally:
            driver.terminate()
