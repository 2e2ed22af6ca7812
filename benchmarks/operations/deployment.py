"""Everything that operates one deployment, each part a process that can die.

PostgreSQL, a Prefect server on it, a worker.

A world begins from a clean clone, with human text ingested, the automations established and `deploy --all` done.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from benchmarks.figures import WORK
from benchmarks.operations.postgres import Postgres, free_port, postgres
from storage.readers.python_docs import iter_docstrings
from storage.runs.run import Run

PIECES = WORK / "operate"
"""Results of each part, with its transcript and logs; a finished part is not run again."""
_ROOT = Path(__file__).parents[2]
_RECIPE = {
    "name": "nightly",
    "dataset": "letters",
    "train": {"backend": "ngram"},
    "curate": {"encoder": "hashing"},
    "prompts": {"prompts_per_human_record": 20},
    "evaluate": {"num_samples": 20},
}
"""Generations of some seconds, so that there is a middle to be killed in."""


@dataclass
class World:
    """Everything that operates one deployment, each part a process that can die."""

    folder: Path
    database: Postgres
    port: int
    began: float = field(default_factory=time.monotonic)
    parts: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        """Where the run is."""
        return self.folder / "clone/heirloom-store"

    @property
    def run(self) -> Run:
        """The run that is operated."""
        return Run(self.store, "nightly")

    def say(self, sentence: str) -> None:
        """Add to the transcript."""
        line = f"{time.monotonic() - self.began:6.1f} s  {sentence}"
        print(line, flush=True)
        with (self.folder / "transcript.txt").open("a") as transcript:
            transcript.write(line + "\n")

    def environment(self) -> dict[str, str]:
        """What every process of this world finds."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
        return kept | {
            "PREFECT_HOME": str(self.folder / "home"),
            "PREFECT_PROFILES_PATH": str(self.folder / "home/profiles.toml"),
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database.address,
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            # prefect.toml turns it on, and the requests of this file have no token.
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
        }

    def start(self, part: str) -> None:
        """Start the server or the worker, and wait until the server answers."""
        words = {
            "server": ["server", "start", "--host", "127.0.0.1", "--port", str(self.port)],
            "worker": ["worker", "start", "--pool", "heirloom", "--type", "process", "--install-policy", "never"],
        }[part]
        with (self.folder / f"{part}.log").open("a") as log:
            self.parts[part] = subprocess.Popen(
                [sys.executable, "-m", "prefect", *words],
                cwd=self.folder / "clone",
                env=self.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if part == "server":
            self.wait(self.answers, "the server answers", 180)
        self.say(f"{part} started")

    def end(self, part: str, how: signal.Signals) -> None:
        """Signal a part; after ten seconds, as for containers, or at once by SIGKILL, all that it began dies."""
        process = self.parts.pop(part)
        below = _began_by(process.pid)
        process.send_signal(how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        self.say(
            f"{part} ended by {how.name}" if process.poll() is not None else f"{part} outlives {how.name}; SIGKILL"
        )
        for number in [process.pid, *below]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        process.wait(60)

    def command(self, *words: str) -> str:
        """Run a Python module in the clone to its end and return its output."""
        found = subprocess.run(
            [sys.executable, "-m", *words],
            cwd=self.folder / "clone",
            env=self.environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if found.returncode:
            raise RuntimeError(f"{' '.join(words)} ended with {found.returncode}: {found.stdout}{found.stderr}")
        self.say(f"{' '.join(words)}")
        return found.stdout

    def api(self, method: str, path: str, body: Any = None) -> Any:  # noqa: ANN401  (JSON)
        """Ask the server."""
        answer = httpx.request(method, f"http://127.0.0.1:{self.port}/api{path}", json=body, timeout=20)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def answers(self) -> bool:
        """Whether the server is ready."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/api/ready", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def runs(self) -> list[dict[str, Any]]:
        """Flow runs of the deployment `evolve/nightly`, by the time they were due."""
        found = self.api("POST", "/flow_runs/filter", {"deployments": {"id": {"any_": [self.deployment()]}}})
        return sorted(found, key=lambda run: str(run["expected_start_time"]))

    def deployment(self) -> str:
        """Id of the deployment `evolve/nightly`."""
        return str(self.api("GET", "/deployments/name/evolve/nightly")["id"])

    def trigger(self) -> str:
        """Ask for one more generation; returns the flow run's id."""
        made = self.api("POST", f"/deployments/{self.deployment()}/create_flow_run", {"state": {"type": "SCHEDULED"}})
        self.say("evolve/nightly triggered")
        return str(made["id"])

    def states(self, run: str) -> list[tuple[str, str]]:
        """Every state a flow run has been in, with its time, oldest first."""
        found = self.api("GET", f"/flow_run_states/?flow_run_id={run}")
        return sorted((state["timestamp"], state["name"]) for state in found)

    def accepted(self) -> list[int]:
        """Accepted generations, once for each entry of the journal."""
        return [entry["generation"] for entry in self.run.journal() if entry["event"] == "accepted"]

    def wait(self, true: Callable[[], bool], what: str, seconds: float = 600) -> float:
        """Wait until something is true; returns how long that took.

        Raises:
            TimeoutError: it was not.
        """
        since = time.monotonic()
        while not _holds(true):
            if time.monotonic() - since > seconds:
                raise TimeoutError(f"after {seconds:.0f} s it is still not so that {what}")
            time.sleep(0.2)
        self.say(what)
        return time.monotonic() - since


@contextlib.contextmanager
def world(name: str) -> Iterator[World]:
    """A world from a clean clone, with human text ingested and the deployments there."""
    folder = Path(tempfile.mkdtemp(prefix="heirloom-operate-"))
    try:
        with postgres() as database:
            made = World(folder, database, free_port())
            try:
                _furnish(made)
                yield made
            finally:
                for part in list(made.parts)[::-1]:
                    made.end(part, signal.SIGKILL)
    finally:
        PIECES.mkdir(parents=True, exist_ok=True)
        for kept in ("transcript.txt", "server.log", "worker.log"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(folder / kept, PIECES / f"{name}.{kept}")
        shutil.rmtree(folder, ignore_errors=True)


def _furnish(made: World) -> None:
    subprocess.run(["git", "clone", "--quiet", str(_ROOT), str(made.folder / "clone")], check=True)
    made.say(f"PostgreSQL at {made.database.address}")
    made.start("server")
    made.command("prefect", "work-pool", "create", "heirloom", "--type", "process", "--overwrite")
    made.command("deploy.automations")
    made.command("prefect", "--no-prompt", "deploy", "--all")
    letters = made.folder / "clone/letters.jsonl"
    texts = [text for text, _ in iter_docstrings()][:600]
    letters.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    made.command("flows", "ingest", "letters.jsonl", "--name", "letters")
    made.api("PATCH", f"/deployments/{made.deployment()}", {"parameters": {"recipe": _RECIPE, "num_generations": 1}})
    made.start("worker")


def _holds(true: Callable[[], bool]) -> bool:
    try:
        return true()
    except httpx.HTTPError:
        return False


def _began_by(process: int) -> list[int]:
    """Every process below this one, read from the system's own table."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    found = [child for child, parent in parents.items() if parent == process]
    return found + [below for child in found for below in _began_by(child)]
