"""Take the screenshots of docs/operating.md from a Prefect server in headless Chromium: `python docs/screenshots.py`.

Starts a server, serves the deployments, runs five generations and a sixth that waits for its review. Takes some minutes
and keeps only docs/screenshots/*.png. Needs Chromium. Inspect the images before committing them.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.operations.postgres import free_port  # noqa: E402
from tests.support.browser import Page, open_browser  # noqa: E402

SCREENSHOTS = ROOT / "docs/screenshots"
_MENU = 1366, 33
"""Position of a flow run's menu button, which has no accessible name."""
_RECIPE = {
    "name": "nightly",
    "description": "Does the loop keep its vocabulary over many nights?",
    "dataset": "letters",
    "train": {"backend": "ngram"},
    "curate": {"encoder": "hashing"},
    "mix": {"policy": "anchor"},
}


def main() -> None:
    """Take all screenshots."""
    SCREENSHOTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="heirloom-pictures-") as name, _server(Path(name)) as server:
        folder = Path(name)
        with _served(folder, server):
            finished = _evolve(server, {"num_generations": 6}, "COMPLETED")
            waiting = _evolve(
                server, {"num_generations": 1, "recipe": _RECIPE | {"review": {"when": "always"}}}, "PAUSED"
            )
            with open_browser(folder / "browser") as page:
                _take(page, server, finished, waiting)


def _take(page: Page, server: str, finished: str, waiting: str) -> None:
    deployment = _request(server, "GET", "/deployments/name/evolve/served")["id"]
    query = {"artifacts": {"key": {"any_": ["nightly-generation"]}}, "sort": "CREATED_DESC"}
    artifact = _request(server, "POST", "/artifacts/filter", query)[0]["id"]
    for name, address, text in (
        ("run", f"/v2/runs/flow-run/{finished}", "nightly"),
        ("artifact", f"/v2/artifacts/artifact/{artifact}", "Kept and dropped"),
        ("form", f"/v2/deployments/deployment/{deployment}/run", "what is made"),
        ("schedule", f"/v2/deployments/deployment/{deployment}", "Schedules"),
        ("review", f"/v2/runs/flow-run/{waiting}", "Suspended"),
    ):
        page.open(server + address, width=1400, height=1200 if name == "review" else 900)
        page.wait_for(text)
        # The graph and the charts appear after the text.
        time.sleep(6)
        if name == "review":
            page.press(*_MENU)
            time.sleep(1)
            page.click("Resume")
            page.wait_for("Human fraction")
            time.sleep(1)
        _save(page, name)


def _save(page: Page, name: str) -> None:
    path = SCREENSHOTS / f"{name}.png"
    page.picture(path)
    # Flat colors are lossless in a palette, and the files stay small.
    Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
    print(path, f"{path.stat().st_size / 1000:.0f} kB")  # noqa: T201


def _evolve(server: str, parameters: dict[str, Any], until: str) -> str:
    deployment = _request(server, "GET", "/deployments/name/evolve/served")["id"]
    flow_run = _request(server, "POST", f"/deployments/{deployment}/create_flow_run", {"parameters": parameters})
    _wait(lambda: _request(server, "GET", f"/flow_runs/{flow_run['id']}")["state_type"] == until, f"evolve is {until}")
    return str(flow_run["id"])


@contextlib.contextmanager
def _server(folder: Path) -> Iterator[str]:
    address = f"http://127.0.0.1:{(port := free_port())}"
    for name in [name for name in os.environ if name.startswith("PREFECT")]:
        del os.environ[name]
    os.environ |= {
        "PREFECT_HOME": str(folder / "home"),
        "PREFECT_API_URL": f"{address}/api",
        "PREFECT_SERVER_UI_API_URL": f"{address}/api",
        "PREFECT_SERVER_UI_V2_ENABLED": "true",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        # prefect.toml turns it on, and the requests of this file have no token.
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "HEIRLOOM_STORE": str(folder / "store"),
        "PYTHONPATH": str(ROOT),
    }
    with _process(folder / "server.log", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)):
        _wait(lambda: httpx.get(f"{address}/api/ready", timeout=2).status_code == 200, "the server responds")
        yield address


@contextlib.contextmanager
def _served(folder: Path, server: str) -> Iterator[None]:
    recipe = folder / "nightly.toml"
    tables = [f"[{name}]\n" + _lines(value) for name, value in _RECIPE.items() if isinstance(value, dict)]
    recipe.write_text(_lines(_RECIPE) + "\n".join(tables))
    command = [
        sys.executable,
        "-m",
        "flows",
        "ingest",
        "python-docs",
        "--name",
        "letters",
        "--set",
        "max_train_records=800",
    ]
    subprocess.run(command, check=True, cwd=folder)  # noqa: S603
    with _process(folder / "serve.log", "flows", "serve", str(recipe), "--cron", "0 2 * * *", cwd=folder):
        _wait(lambda: "id" in _request(server, "GET", "/deployments/name/evolve/served"), "the flows are served")
        yield


def _lines(table: dict[str, Any]) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in table.items() if not isinstance(value, dict))


@contextlib.contextmanager
def _process(log: Path, *arguments: str, cwd: Path = ROOT) -> Iterator[None]:
    with log.open("w") as output:
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", *arguments], stdout=output, stderr=output, cwd=cwd, start_new_session=True
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)


def _request(server: str, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401  (JSON)
    return httpx.request(method, f"{server}/api{path}", json=body, timeout=30).json()


def _wait(condition: Callable[[], bool], description: str, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(httpx.HTTPError):
            if condition():
                return
        time.sleep(0.5)
    raise TimeoutError(f"after {seconds:.0f} s it is still not true that {description}")


if __name__ == "__main__":
    main()
