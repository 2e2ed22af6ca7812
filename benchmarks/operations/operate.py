"""What operation survives: a schedule that fires by itself, and the deaths of worker, server and database in mid-run.

Each piece has a world of its own. A piece that was finished before is not run again; its transcript lies beside it.
What orchestration costs is counted by `benchmarks.overhead`, as further pieces.
"""

import json
import signal
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from benchmarks.figures import Figure
from benchmarks.operations import overhead
from benchmarks.operations.deployment import PIECES, World, world
from benchmarks.operations.kills import half, stored


def measure() -> list[Figure]:
    """Every piece that is not there yet, then the figures of all."""
    pieces: dict[str, Callable[[World], dict[str, Any]]] = {
        "schedule": _schedule,
        "worker-killed": lambda made: _disturbed(made, _kill_worker),
        "worker-terminated": lambda made: _disturbed(made, _terminate_worker),
        "server-restarted": lambda made: _disturbed(made, _restart_server),
        "database-restarted": lambda made: _disturbed(made, _restart_database),
    }
    costs = overhead.figures(*(_piece(name, work) for name, work in overhead.costs().items()))
    found = {name: _piece(name, work) for name, work in pieces.items()}
    fired = found.pop("schedule")
    figures = [
        Figure(
            "scheduled runs that started, from a clean clone on PostgreSQL",
            fired["fired"],
            "runs",
            ">= 2, a generation each",
            fired["fired"] >= 2 and fired["accepted"] == list(range(fired["fired"])),
        ),
        Figure("delay from due time to start, maximum of two", fired["late"], "s"),
        *costs,
    ]
    for name, result in found.items():
        whole = result["once"] and not result["half"] and not result["changed"] and result["ended"] == "Completed"
        figures.append(
            Figure(f"{name}: finished after", result["finished"], "s", "no record lost or duplicated", whole)
        )
        figures.append(Figure(f"{name}: detected after", result["noticed"], "s" if result["noticed"] else "not needed"))
    return figures


def _piece(name: str, work: Callable[[World], dict[str, Any]]) -> dict[str, Any]:
    note = PIECES / f"{name}.json"
    if not note.exists():
        with world(name) as made:
            result = work(made)
        note.write_text(json.dumps(result, indent=1))
    return dict(json.loads(note.read_text()))


def _schedule(made: World) -> dict[str, Any]:
    every = {"interval": 60.0, "anchor_date": "2026-01-01T00:00:00Z", "timezone": "UTC"}
    made.api("POST", f"/deployments/{made.deployment()}/schedules", [{"schedule": every, "active": True}])
    made.say("evolve/nightly is due every minute from now on")
    made.wait(lambda: made.accepted() == [0], "generation 0 exists, started by the schedule")
    made.wait(lambda: made.accepted() == [0, 1], "generation 1 exists, started by the schedule")
    done = [run for run in made.runs() if run["start_time"]]
    made.wait(lambda: sum(run["state_type"] == "COMPLETED" for run in made.runs()) >= 2, "two runs are Completed")
    late = [_between(run["expected_start_time"], run["start_time"]) for run in done[:2]]
    return {"fired": len(made.accepted()), "accepted": made.accepted(), "late": round(max(late), 1)}


def _disturbed(made: World, disturb: Callable[[World], None]) -> dict[str, Any]:
    first = made.trigger()
    made.wait(lambda: made.states(first)[-1][1] == "Completed", "generation 0 is there")
    run = made.trigger()
    candidates = made.run.folder / "generation=1/attempt=1/.candidates.draft"
    made.wait(candidates.exists, "generation 1 is being generated")
    before = stored(made.store)
    since = time.time()
    disturb(made)
    made.wait(lambda: made.states(run)[-1][1] in {"Completed", "Failed"}, "the run has ended")
    states = made.states(run)
    for at, state in states:
        made.say(f"{_seconds(at) - since:+7.1f} s  {state}")
    crashed = [_seconds(at) - since for at, state in states if state == "Crashed"]
    now = stored(made.store)
    return {
        "noticed": round(crashed[0], 1) if crashed else None,
        "finished": round(_seconds(states[-1][0]) - since, 1),
        "ended": states[-1][1],
        "states": [state for _, state in states],
        "once": made.accepted() == [0, 1],
        "half": half(made.store),
        "changed": [name for name, digest in before.items() if now.get(name) != digest],
    }


def _kill_worker(made: World) -> None:
    made.end("worker", signal.SIGKILL)
    made.start("worker")


def _terminate_worker(made: World) -> None:
    made.end("worker", signal.SIGTERM)
    made.start("worker")


def _restart_server(made: World) -> None:
    made.end("server", signal.SIGTERM)
    made.start("server")


def _restart_database(made: World) -> None:
    made.database.control("restart", "-m", "fast")
    made.say("PostgreSQL restarted")


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _between(first: str, second: str) -> float:
    return _seconds(second) - _seconds(first)
