"""Measure ingestion against reading and writing the same file: time, memory growth, and a thousand malformed files.

Every measurement is a process of its own; compared ones alternate in one run. Near-duplicate search is off: it has its
own benchmark.
"""

import json
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq

from benchmarks.figures import WORK, Figure, short
from benchmarks.operations.malformed_files import write_malformed
from curation.splitting import DedupSettings, IngestSettings
from storage.artifacts.artifact import read_manifest
from storage.artifacts.parquet_io import write_parquet
from tasks.ingestion.ingest import ingest

_FOLDER = WORK / "ingesting"
_RECORDS, _MORE, _ROUNDS, _MALFORMED = 1_000_000, 4_000_000, 3, 1_000
_GOAL, _FLAT = 100_000, 1.25


def figures() -> list[Figure]:
    """Records a second of both kinds of file, memory at two sizes, and the thousand malformed files."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    lines, table, more = (_written(name, count) for name, count in _FILES.items())
    found: list[Figure] = []
    for path in (lines, table):
        rounds = [(_measured("ingest", path), _measured("plain", path)) for _ in range(_ROUNDS)]
        pace = _RECORDS / min(ours["seconds"] for ours, _ in rounds)
        beside = median(ours["cpu"] / plain["cpu"] for ours, plain in rounds)
        kind = path.suffix.removeprefix(".")
        found += [
            Figure(
                f"ingest, a million records of {kind}", short(pace), "records/s", f">= {_GOAL:,}", bool(pace >= _GOAL)
            ),
            Figure(f"ingest, {kind}: CPU time, ingest / plain read and write", short(beside), "ratio"),
            Figure(f"ingest, {kind}: peak memory", short(max(ours["mb"] for ours, _ in rounds)), "MB"),
            Figure(f"plain read and write, {kind}: peak memory", short(max(plain["mb"] for _, plain in rounds)), "MB"),
        ]
        if path == lines:
            growth = _measured("ingest", more)["mb"] / median(ours["mb"] for ours, _ in rounds)
            found.append(
                Figure(
                    "ingest: peak memory, four million / one million records",
                    short(growth),
                    "ratio",
                    f"<= {_FLAT}",
                    bool(growth <= _FLAT),
                )
            )
    return [*found, *_malformed()]


_FILES = {"one.jsonl": _RECORDS, "one.parquet": _RECORDS, "four.jsonl": _MORE}


def _written(name: str, count: int) -> Path:
    path = _FOLDER / name
    if path.exists():
        return path
    rng = random.Random(0)  # noqa: S311  (not a secret)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) for _ in range(20_000)]
    texts = (" ".join(rng.choices(words, k=rng.randint(30, 46))) for _ in range(count))
    hidden = path.with_name(f".{name}")
    if path.suffix == ".jsonl":
        with hidden.open("w") as lines:
            lines.writelines(json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(texts))
    else:
        pq.write_table(pa.table({"text": list(texts)}), hidden, compression="zstd")
    hidden.rename(path)
    return path


def _measured(mode: str, path: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.performance.ingest", mode, str(path)]
    done = subprocess.run(command, check=True, text=True, capture_output=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _malformed() -> list[Figure]:
    """Each in a store of its own: accepted with a count of rejected rows, or refused with one message."""
    folder = _FOLDER / "malformed"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    settings = IngestSettings(max_document_bytes=100_000, dedup=DedupSettings(method="exact"))
    ends: Counter[str] = Counter()
    aside = 0
    for number in range(_MALFORMED):
        file = write_malformed(folder, number)
        try:
            made = ingest(folder / "store", str(number), [str(file)], settings)
            aside += read_manifest(made["rejected_documents"].folder)["rows"]
            ends["accepted"] += 1
        except ValueError as refused:
            ends["refused" if len(str(refused).splitlines()) == 1 else "broken"] += 1
        except Exception:  # noqa: BLE001  (what is counted here is what should not be)
            ends["broken"] += 1
        file.unlink()
    return [
        Figure(f"{_MALFORMED:,} malformed files: tracebacks", ends["broken"], "files", "= 0", not ends["broken"]),
        Figure(f"{_MALFORMED:,} malformed files: refused with one message", ends["refused"], "files"),
        Figure(f"{_MALFORMED:,} malformed files: accepted, rejected rows in them", aside, "rows"),
    ]


def _ingest(path: Path) -> None:
    store = _FOLDER / "store"
    shutil.rmtree(store, ignore_errors=True)
    ingest(store, "one", [str(path)], IngestSettings(dedup=DedupSettings(method="exact")))
    shutil.rmtree(store)


def _plain(path: Path) -> None:
    table = pyarrow.json.read_json(path) if path.suffix == ".jsonl" else pq.read_table(path)
    write_parquet(table.select(["text"]), _FOLDER / "plain.parquet")


class _Memory:
    """The most that this process and its children had in memory at once, asked twenty times a second."""

    def __init__(self) -> None:
        self.most = 0
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.most = max(self.most, sum(map(_resident, [os.getpid(), *_children()])))
            time.sleep(0.05)


def _children() -> list[int]:
    mine = os.getpid()
    return [int(child) for child in Path(f"/proc/{mine}/task/{mine}/children").read_text().split()]


def _resident(process: int) -> int:
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _main(mode: str, path: Path) -> None:
    memory, began = _Memory(), time.monotonic()
    {"ingest": _ingest, "plain": _plain}[mode](path)
    seconds = time.monotonic() - began
    used: list[Any] = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(one.ru_utime + one.ru_stime for one in used)
    print(json.dumps({"seconds": seconds, "cpu": cpu, "mb": memory.most / 2**20}))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]))
