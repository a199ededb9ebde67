"""A page in headless Chromium, driven over a pipe by its DevTools protocol: what it logs, loads and shows."""

import base64
import io
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LONGEST = 60.0
"""Seconds to wait for an answer."""


class Browser:
    """One headless Chromium with one page; a context, at whose end it is gone."""

    def __init__(self) -> None:
        assert PROGRAM is not None
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        command = [PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
        command += ["--hide-scrollbars", "--no-first-run", f"--user-data-dir={self._profile.name}", "about:blank"]

        def descriptors() -> None:  # the protocol wants them at 3 and 4
            os.dup2(os.dup2(to_browser, 100), 3)
            os.dup2(os.dup2(from_browser, 101), 4)

        self._process = subprocess.Popen(
            command,
            preexec_fn=descriptors,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        (page,) = [t for t in self.send("Target.getTargets")["targetInfos"] if t["type"] == "page"][:1]
        attached = self.send("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)
        self._profile.cleanup()

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call ``method`` of the protocol and return its result; events in between are kept in ``events``."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer)
                return answer["result"]
            self.events.append(answer)

    def _next(self) -> dict[str, Any]:
        ends = time.monotonic() + LONGEST
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, ends - time.monotonic()))
            chunk = os.read(self._read, 1 << 20) if ready else b""
            assert chunk, "the browser does not answer"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, path: Path, width: int, scheme: str, height: int = 900) -> None:
        """Show the page at ``path``, ``width`` pixels wide, ``scheme`` light or dark, and wait for its plots."""
        self.events.clear()
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.media(scheme)
        self.send("Page.navigate", url=path.resolve().as_uri())
        self.drawn(scheme)

    def media(self, scheme: str, medium: str = "") -> None:
        """Prefer ``scheme`` from now on; ``medium`` print shows what a printer would get."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.send("Emulation.setEmulatedMedia", media=medium, features=features)

    def drawn(self, scheme: str) -> None:
        """Wait until the plots are drawn in the colours of ``scheme``."""
        ends = time.monotonic() + LONGEST
        while self.run("document.documentElement?.dataset.drawn") not in (scheme, "nothing"):
            assert time.monotonic() < ends, "the plots are not drawn"
            time.sleep(0.05)

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page; a promise is waited for."""
        result = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def errors(self) -> list[str]:
        """What the console has seen of errors and warnings since the page was opened."""
        found = []
        for event in self.events:
            what, said = event.get("method"), event.get("params", {})
            if what == "Runtime.exceptionThrown":
                found.append(json.dumps(said["exceptionDetails"]))
            elif what == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
                found.append(json.dumps(said["args"]))
            elif what == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
                found.append(said["entry"]["text"])
        return found

    def requests(self) -> list[str]:
        """Addresses that the page asked for, but itself and what it holds."""
        asked = [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]
        return [url for url in asked[1:] if not url.startswith(("data:", "blob:"))]

    def pixels(self, selector: str) -> np.ndarray:
        """A picture of the first element that ``selector`` finds, uint8 (H, W, 3)."""
        box = self.run(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [box.x + scrollX, box.y + scrollY, box.width, box.height]; })()"
        )
        clip = dict(zip(("x", "y", "width", "height"), box, strict=True), scale=1)
        return self.screenshot(clip)

    def screenshot(self, clip: dict[str, float] | None = None) -> np.ndarray:
        """A picture of the whole page, or of ``clip``, uint8 (H, W, 3)."""
        if clip is None:
            size = self.send("Page.getLayoutMetrics")["cssContentSize"]
            clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        taken = self.send("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB"))
