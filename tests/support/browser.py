"""A real headless Chromium, controlled over its own protocol: open a page, wait for words, take a picture."""

import base64
import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support.waiting import until

_FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-port=0"
)


class Page:
    """One open tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number = socket, 0

    def open(self, address: str, width: int = 1400, height: int = 1000) -> None:
        """Go there."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._ask("Emulation.setDeviceMetricsOverride", **metrics)
        self._ask("Page.navigate", url=address)

    def text(self) -> str:
        """What a person could read on the page now."""
        return str(self.evaluate("document.body ? document.body.innerText : ''"))

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self._ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def wait_for(self, words: str, seconds: float = 120) -> str:
        """The text of the page once `words` are on it."""
        end = time.monotonic() + seconds
        while words not in (text := self.text()):
            assert time.monotonic() < end, f"{words!r} did not appear; the page has: {text[:1000]}"
            time.sleep(0.25)
        return text

    def click(self, words: str, selector: str = "button, [role=menuitem], a, span") -> None:
        """Click the element whose text or label is exactly `words`."""
        found = self.evaluate(
            f"(() => {{ const all = [...document.querySelectorAll({json.dumps(selector)})].filter(one => "
            "one.offsetParent && [one.innerText?.trim(), one.ariaLabel, "
            f"one.getAttribute('data-testid')].includes({json.dumps(words)})); if (!all.length) return null; "
            "all[0].scrollIntoView({block: 'nearest'}); const box = all[0].getBoundingClientRect(); return [box.x + "
            "box.width / 2, box.y + box.height / 2] })()"
        )
        assert found, f"no element has {words!r}; the page has: {self.text()[:1000]}"
        self.press(*found)

    def press(self, x: float, y: float) -> None:
        """Press what is there."""
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self._ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, path: Path) -> None:
        """Save what is seen."""
        path.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"]))

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=120))
            if answer.get("id") == self._number:
                return answer["result"]


@contextlib.contextmanager
def open_browser(folder: Path) -> Iterator[Page]:
    """A page of a browser that keeps its profile in `folder`; skips the test where no Chromium is installed."""
    chromium = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    if chromium is None:
        pytest.skip("no Chromium is installed")
    process = subprocess.Popen(
        [str(chromium), *_FLAGS.split(), f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        port = _port(folder / "DevToolsActivePort")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=120) as answer:
            tab = next(tab for tab in json.loads(answer.read()) if tab["type"] == "page")
        with connect(tab["webSocketDebuggerUrl"], max_size=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.wait(120)


def _port(path: Path) -> int:
    until(lambda: path.exists() and path.read_text().strip(), "Chromium to say on which port it listens")
    return int(path.read_text().splitlines()[0])
