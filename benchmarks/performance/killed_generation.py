"""Generate ten thousand candidates, uninterrupted and killed midway.

Equal texts, constant memory, at most one part lost.

The module is also the process that is killed: `python -m benchmarks.performance.killed_generation STORE RUN
PROMPTS_OF_A_RECORD`.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.figures import WORK, Figure, short
from curation.prompts.plan import PromptSettings
from curation.splitting import IngestSettings
from flows.config.recipe import Recipe
from storage.artifacts.artifact import MANIFEST, read_manifest, read_table
from storage.readers.discovery import PYTHON_DOCS
from storage.runs.run import Attempt, Run
from tasks.backends import Resources, Sampling, TransformerTraining
from tasks.backends.registry import Backends
from tasks.context import GenerationHistory, StageContext
from tasks.generation.generate import PART, generate
from tasks.ingestion.ingest import ingest, load_pinned_human
from tasks.mix import mix
from tasks.orchestration.prefect import without_prefect
from tasks.training.train import train

_STORE = WORK / "generation" / "ten-thousand"
_SHAPE = TransformerTraining(
    hidden_size=64,
    num_hidden_layers=2,
    num_attention_heads=2,
    context_length=128,
    vocab_size=800,
    generation_0_max_steps=40,
    batch_size=4,
)
_SAMPLING = Sampling(sampler="vllm", max_tokens=32)
_RECORDS, _EACH = 500, 20


def figures() -> list[Figure]:
    """Two runs of the same generation in processes of their own; five to ten minutes on one core."""
    plain, killed = Run(_STORE, "plain"), Run(_STORE, "killed")
    for run in (plain, killed):
        shutil.rmtree(run.folder, ignore_errors=True)
        (_STORE / f"{run.name}.log").unlink(missing_ok=True)
    growth = _watched(plain)
    log_at_kill = _until(killed, _RECORDS * _EACH // PART // 2 + 1)
    before = {path.name: path.stat().st_mtime_ns for path in _draft(killed).glob("part-*")}
    _watched(killed)
    whole, resumed = (read_table(_candidates(run)) for run in (plain, killed))
    if whole.num_rows != _RECORDS * _EACH:
        raise ValueError(f"{_RECORDS * _EACH} candidates were wanted, {whole.num_rows} were made")
    again = sum((_candidates(killed) / name).stat().st_mtime_ns != when for name, when in before.items())
    texts = ["id", "text", "seed", "sum_logprob", "finish_reason"]
    unlike = sum(
        one != other
        for one, other in zip(whole.select(texts).to_pylist(), resumed.select(texts).to_pylist(), strict=True)
    )
    after = read_manifest(_candidates(killed))["facts"]["resumed_after"]
    num_generated = int(re.findall(r"generate ([\d,]+) of", log_at_kill)[-1].replace(",", ""))
    lost = num_generated - after
    label = f"{whole.num_rows:,} candidates, killed in the middle"
    rate = re.findall(r"([\d,]+) tokens a second, \d+ s left", (_STORE / "plain.log").read_text())
    return [
        Figure(
            f"{whole.num_rows:,} candidates: memory of all processes, last quarter / second quarter",
            short(growth),
            "ratio",
            "<= 1.05",
            growth <= 1.05,
        ),
        Figure("progress reports with tokens per second and time left", len(rate), "times", "> 0", bool(rate)),
        Figure(f"{label}: rows that differ from an uninterrupted run", unlike, "", "0", not unlike),
        Figure(f"{label}: complete parts generated again, of {len(before)}", again, "", "0", not again),
        Figure(
            f"{label}: candidates generated but not stored at the kill", lost, "", f"<= {PART}, a part", lost <= PART
        ),
    ]


def _candidates(run: Run) -> Path:
    return Attempt(run, 1).folder / "candidates"


def _draft(run: Run) -> Path:
    return Attempt(run, 1).folder / ".candidates.draft"


def _begun(run: Run) -> "subprocess.Popen[bytes]":
    _STORE.mkdir(parents=True, exist_ok=True)
    log = (_STORE / f"{run.name}.log").open("ab")
    words = [sys.executable, "-m", "benchmarks.performance.killed_generation", str(_STORE), run.name, str(_EACH)]
    return subprocess.Popen(words, stdout=log, stderr=log)


def _watched(run: Run) -> float:
    """Run it to its end; resident memory of it and its children, the last quarter of the parts over the second."""
    process, seen = _begun(run), dict[int, list[int]]()
    while process.poll() is None:
        seen.setdefault(len(list(_draft(run).glob("part-*"))), []).append(_resident(process.pid))
        time.sleep(0.2)
    if process.returncode:
        raise ValueError(f"the generation ended with {process.returncode}; see {_STORE / run.name}.log")
    parts = _RECORDS * _EACH // PART
    # Without the start, when the engine is not there yet.
    early = [one for part, found in seen.items() if max(1, parts // 4) <= part < max(2, parts // 2) for one in found]
    late = [one for part, found in seen.items() if part >= 3 * parts // 4 for one in found]
    return statistics.median(late) / statistics.median(early) if early and late else float("nan")


def _until(run: Run, parts: int) -> str:
    """Kill the process after `parts` parts and half of the next; return its log."""
    process = _begun(run)
    while len(list(_draft(run).glob("part-*"))) < parts:
        if process.poll() is not None:
            raise ValueError(f"the generation ended before it was killed; see {_STORE / run.name}.log")
        time.sleep(0.05)
    time.sleep(1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    return (_STORE / f"{run.name}.log").read_text()


def _resident(pid: int) -> int:
    """Bytes of a process and of everything below it."""
    total = 0
    with contextlib.suppress(OSError):
        total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(_resident(int(child)) for child in (task / "children").read_text().split())
    return total


def main() -> None:
    """Make the model if it is not there, and the ten thousand."""
    store, name, each = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # Progress is logged twice a second: it shows how far the generation was at the kill.
    logging.getLogger("heirloom.progress").setLevel(logging.DEBUG)
    logging.getLogger("tasks").setLevel(logging.INFO)
    ground, run = Run(store, "ground"), Run(store, name)
    backends = Backends(Resources(kv_cache_mib=128), store / "logs" / name)
    with without_prefect():
        settings = IngestSettings(passage_length_chars=(80, 360), max_train_records=_RECORDS, max_heldout_records=50)
        ingest(store, "docs", [PYTHON_DOCS], settings)
        for one in (ground, run):
            one.initialize({}, set(), {})
        beginning, attempt = Attempt(ground, 0), Attempt(run, 1)
        human = load_pinned_human(beginning, "docs")
        load_pinned_human(attempt, "docs")
        prompts = PromptSettings(template_name="prefix", prompts_per_human_record=each, max_prompts_per_record=each)
        recipe = Recipe(name=name, dataset="docs", train=_SHAPE, prompts=prompts, generate=_SAMPLING)
        ground_ctx = StageContext(attempt=beginning, recipe=recipe, backends=backends)
        corpus = mix(ground_ctx, human, GenerationHistory())
        model = train(ground_ctx, human, GenerationHistory(), corpus)
        ctx = StageContext(attempt=attempt, recipe=recipe, backends=backends)
        generate(ctx, human, GenerationHistory(), model)
    backends.close()
    print(json.dumps({"manifest": str(_candidates(run) / MANIFEST)}))


if __name__ == "__main__":
    main()
