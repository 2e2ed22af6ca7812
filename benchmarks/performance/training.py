"""Measure training against transformers' Trainer, the fast path, recovery from a kill, and every way to train once.

Finished parts are kept in `training` of the work folder, so an interrupted benchmark resumes; delete the folder to
start over. Costs are CPU seconds of this process, alternating on the same blocks. Needs two free cores for about a
quarter of an hour.
"""

import json
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, short
from benchmarks.performance.training_costs import FOLDER, SHAPE, ancestor_of, beside, fast_path, human_texts, untold
from benchmarks.performance.training_variants import VARIANTS, dry, live
from tasks.backends import Resources, TrainingCorpus, TrainJob, TransformerTraining
from tasks.backends.registry import Backends
from tasks.backends.workers.process import WorkerError
from tasks.orchestration.prefect import without_prefect


def measure() -> list[Figure]:
    """Run what is not remembered."""
    with without_prefect():
        reference = _remembered("reference", beside)
        fast = _remembered("fast", fast_path)
        killed = _remembered("killed", _killed)
        large = _remembered("hundred-million", partial(dry, FOLDER))
        lived = {name: _remembered(f"variant-{name}", partial(live, name, FOLDER / "variants")) for name in VARIANTS}
    ratio = statistics.median(theirs / ours for ours, theirs in reference["costs"])
    saved = statistics.median(fast["ratios"])
    same = max(abs(ours - theirs) for ours, theirs in reference["losses"]) < 1e-4
    figures = [
        Figure(
            "reference path: tokens per CPU second, Heirloom / transformers.Trainer, median of ten rounds",
            short(ratio),
            "ratio",
            ">= 0.97",
            ratio >= 0.97,
        ),
        Figure("reference path: final losses are equal to 0.0001", str(same).lower(), "", "true", same),
        Figure(
            "fast path: CPU time, plain Trainer / fast path, to the same held-out loss",
            short(saved),
            "ratio",
            ">= 2",
            saved >= 2,
        ),
        Figure(
            "fast path: held-out loss of the plain Trainer at its best learning rate", short(fast["theirs"]), "nats"
        ),
        Figure(
            "fast path: held-out loss",
            short(fast["ours"]),
            "nats",
            "<= plain Trainer",
            fast["ours"] <= fast["theirs"],
        ),
        Figure("fast path: steps, where the plain Trainer takes 400", fast["steps"], "steps"),
        Figure(
            "killed and resumed: files that differ from an uninterrupted training",
            killed["different"],
            "files",
            "0",
            killed["different"] == 0,
        ),
        Figure("killed and resumed: steps not repeated", killed["resumed_from"], "steps"),
    ]
    figures += [
        Figure(
            "recipe hundred-million on this processor, a hundredth of a pass: parameters of its model",
            short(large["weights"] / 1e6),
            "million",
            "90 to 125",
            90e6 <= large["weights"] <= 125e6,
        ),
        Figure(
            "the same: two generations end to end, texts by vLLM",
            large["num_texts"],
            "texts",
            "> 0",
            large["num_texts"] > 0,
        ),
    ]
    for name, found in lived.items():
        holds = found["num_texts"] > 0 and found["sampler"] == "vllm"
        figures.append(
            Figure(f"{name}: a generation end to end, texts by vLLM", found["num_texts"], "texts", "> 0", holds)
        )
    took = sum(piece["seconds"] for piece in (reference, fast, killed, large, *lived.values()))
    return [*figures, Figure("total time, cached parts included", round(took), "s")]


def _remembered(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    file = FOLDER / f"{name}.json"
    if not file.exists():
        started = time.monotonic()
        found = make()
        FOLDER.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({**found, "seconds": round(time.monotonic() - started, 1)}))
        print(f"{name}: {file.read_text()}", flush=True)
    return dict(json.loads(file.read_text()))


def _killed() -> dict[str, Any]:
    texts, _ = human_texts()
    ancestor = ancestor_of(texts)
    settings = TransformerTraining.model_validate({**SHAPE, "max_steps": 60})
    with tempfile.TemporaryDirectory() as name:
        killed, whole = Path(name) / "killed", Path(name) / "whole"
        killed.mkdir()
        whole.mkdir()
        corpus = TrainingCorpus(texts, [])
        job = TrainJob(settings=settings, corpus=corpus, gen0_model=ancestor, folder=whole, seed=1)
        killed_job = replace(job, folder=killed)
        backends = Backends(Resources(checkpoint_interval_s=0.5), Path(name) / "logs")

        def kill(step: int, _: int) -> None:
            if step == 40:
                os.kill(backends.pool.workers[0]._process.pid, signal.SIGKILL)  # noqa: SLF001

        try:
            backends.trainer().train(job, untold)
            try:
                backends.trainer().train(killed_job, kill)
            except WorkerError:
                resumed = backends.trainer().train(killed_job, untold).resumed_from_step
        finally:
            backends.close()
        names = {path.name for folder in (killed, whole) for path in folder.iterdir()}
        return {"different": sum(_bytes(killed / one) != _bytes(whole / one) for one in names), "resumed_from": resumed}


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""
