"""Web pages of other origins, and clients without the secret, against the servers that are started or documented."""

import functools
import http.server
import json
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
import yaml

from flows.orchestration.local_server import answers_every_origin, server_protection
from tests.conftest import human_texts, prefect_free_environment
from tests.support.browser import open_browser
from tests.support.paths import ROOT
from tests.support.prefect_server import ask, prefect_process

pytestmark = pytest.mark.processes

_SECRET = "heirloom:of a test"
_ATTACK = """<!doctype html><script>
const api = location.hash.slice(1)
const headers = {"content-type": "application/json"}
const variable = {method: "POST", headers, body: JSON.stringify({name: "planted", value: "by a page"})}
// The second request is one that browsers send without asking the server first.
const plain = {method: "POST", body: JSON.stringify({name: "planted_plainly", value: "by a page"})}
Promise.allSettled([
  fetch(api + "/flow_runs/filter", {method: "POST", headers, body: "{}"}).then(answer => answer.json()),
  fetch(api + "/variables/", variable), fetch(api + "/variables/", plain),
]).then(results => { document.body.innerText = "answers: " + results.map(one => one.status).join(" ") })
</script><body>"""


@pytest.fixture(scope="module")
def attacker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a page of another origin."""
    folder = tmp_path_factory.mktemp("attacker")
    (folder / "page.html").write_text(_ATTACK)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/page.html"
    server.shutdown()


def planted_by(attacker: str, server: str, folder: Path, secret: str = "") -> list[str]:
    """The variables on the server after the browser has opened the page."""
    with open_browser(folder / "browser") as page:
        page.open(f"{attacker}#{server}/api")
        page.wait_for("answers: ")
    found = ask(server, "POST", "/variables/filter", {}, secret=secret)
    return sorted(one["name"] for one in found)


def test_a_page_of_another_origin_changes_a_server_with_prefect_s_defaults(attacker: str, tmp_path: Path) -> None:
    with prefect_process(tmp_path, {}) as server:
        assert "planted" in planted_by(attacker, server, tmp_path)
        assert answers_every_origin(f"{server}/api")


def test_a_page_of_another_origin_changes_nothing_on_a_protected_server(attacker: str, tmp_path: Path) -> None:
    with prefect_process(tmp_path, server_protection("http://127.0.0.1:4200", _SECRET)) as server:
        assert planted_by(attacker, server, tmp_path, _SECRET) == []
        assert not answers_every_origin(f"{server}/api")
        assert httpx.post(f"{server}/api/flow_runs/filter", json={}).status_code == 403
        assert httpx.get(f"{server}/api/admin/version").status_code == 401
        # The command line works with the secret, and its own pages do.
        letters = tmp_path / "letters.jsonl"
        letters.write_text("".join(json.dumps({"text": text}) + "\n" for text in human_texts(60)))
        command = [sys.executable, "-m", "flows", "ingest", str(letters), "--name", "letters"]
        environment = {
            **prefect_free_environment(),
            "PREFECT_API_URL": f"{server}/api",
            "PREFECT_API_AUTH_STRING": _SECRET,
            "HEIRLOOM_STORE": str(tmp_path / "store"),
        }
        found = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr
        runs = ask(server, "POST", "/flow_runs/filter", {}, secret=_SECRET)
        assert [(run["name"], run["state_type"]) for run in runs] == [("letters", "COMPLETED")]
        with open_browser(tmp_path / "own") as page:
            page.open(server)
            page.wait_for("Login")
            page.evaluate(f"localStorage.setItem('prefect-password', btoa({_SECRET!r}))")
            page.open(f"{server}/runs")
            page.wait_for("letters")


def _settings_of(path: str) -> Mapping[str, str]:
    """The settings that a server gets by a file of `deploy`."""
    text = (ROOT / path).read_text()
    if path.endswith(".service"):
        lines = [line.removeprefix("Environment=") for line in text.splitlines() if line.startswith("Environment=")]
        secret = re.search("PREFECT_SERVER_API_AUTH_STRING=.*", text)  # in a file that only root reads
        return dict(line.split("=", 1) for line in [*lines, secret[0] if secret else "="])
    if path.endswith("README.md"):
        command = re.search(r"prefect config set ((?:.|\\\n)*?)\n[^\s]", text)
        assert command
        return dict(word.split("=", 1) for word in shlex.split(command[1].replace("\\\n", " ")))
    documents = list(yaml.safe_load_all(text))
    if path.endswith("compose.yaml"):
        return dict(documents[0]["services"]["prefect-server"]["environment"])
    if path.endswith("values.yaml"):
        variables = documents[0]["server"]["env"]
    else:
        (deployment,) = (document for document in documents if document["kind"] == "Deployment")
        variables = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    return {one["name"]: one.get("value") or "from a secret" for one in variables}


@pytest.mark.parametrize(
    "path",
    [
        "deploy/README.md",
        "deploy/compose.yaml",
        "deploy/kubernetes/prefect-server.yaml",
        "deploy/kubernetes/prefect-server.values.yaml",
        "deploy/systemd/heirloom-server.service",
    ],
)
def test_every_server_that_is_documented_is_protected(path: str) -> None:
    found = _settings_of(path)
    assert set(server_protection("", "")) <= set(found)
    assert "*" not in found["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"]
    assert found["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"


def test_the_temporary_server_of_a_command_has_a_new_secret_each_time(tmp_path: Path) -> None:
    program = (
        "import os, httpx\n"
        "from flows.orchestration.environment import configure_environment\n"
        "configure_environment()\n"
        "from flows.orchestration.local_server import answers_every_origin, prefect_server\n"
        "with prefect_server():\n"
        "    from prefect.client.orchestration import get_client\n"
        "    address = os.environ['PREFECT_API_URL']\n"
        "    with get_client(sync_client=True) as client:\n"
        "        assert client.read_flow_runs() == []\n"
        "    assert not answers_every_origin(address)\n"
        "    assert httpx.get(f'{address}/admin/version').status_code == 401\n"
        "    assert httpx.post(f'{address}/flow_runs/filter', json={}).status_code in (401, 403)\n"
        "    print(os.environ['PREFECT_API_AUTH_STRING'])\n"
    )
    environment = prefect_free_environment() | {"PREFECT_HOME": str(tmp_path)}
    secrets = set()
    for _ in range(2):
        words = [sys.executable, "-c", program]
        found = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr
        secrets.add(found.stdout.strip())
    assert len(secrets) == 2 and all(len(secret) > 40 for secret in secrets)
