"""What training costs beside transformers' Trainer, what the fast path saves, what a kill costs, and every way to train once.

Pieces are remembered in `training` of the work folder, so that an interrupted benchmark goes on; remove the folder to begin anew. Costs are
CPU seconds of this process alone, ours and theirs in turn on the same blocks. Wants two free cores and about a quarter of an hour.
"""

import json
import os
import shutil
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.figures import WORK, Figure, short
from benchmarks.variants import VARIANTS, live
from curation.splitting import IngestSettings
from storage.artifact import read_table
from storage.run import Attempt, Run
from storage.sources import DOCSTRINGS
from tasks.backends import Corpus, Resources, TransformerTraining
from tasks.backends.pool import Backends
from tasks.backends.worker import WorkerError
from tasks.coat import without_coat
from tasks.ingest import ingest, pinned_human

_WORK = WORK / "training"
_ROUNDS = 3
_SHAPE = {
    "hidden": 128,
    "layers": 2,
    "heads": 4,
    "context": 128,
    "vocabulary": 2048,
    "batch": 8,
    "precision": "float32",
}
_REFERENCE = TransformerTraining.model_validate(
    {
        **_SHAPE,
        "optimiser": "adamw",
        "learning_rate": 0.003,
        "sliced_head": False,
        "weight_decay": 0.1,
        "steps": 100,
        # As the plain Trainer has them.
        "schedule": "linear",
        "warmup_fraction": 0.05,
    }
)
_LONG = 400
"""Steps of the plain Trainer, about as many as the passages bear without overfitting."""
_RATES = (0.001, 0.003, 0.006)
_FAST_STEPS = (100, 130, 160, 200, 240, 280, 320, 400)


def measure() -> list[Figure]:
    """Run what is not remembered."""
    with without_coat():
        beside = _remembered("reference", _beside)
        fast = _remembered("fast", _fast)
        killed = _remembered("killed", _killed)
        lived = {name: _remembered(f"variant-{name}", partial(live, name, _WORK / "variants")) for name in VARIANTS}
    ratio, saved = statistics.median(beside["ratios"]), statistics.median(fast["ratios"])
    same = max(abs(ours - theirs) for ours, theirs in beside["losses"]) < 1e-4
    figures = [
        Figure(
            "the reference path beside transformers.Trainer: tokens a CPU second",
            short(ratio),
            "ratio",
            ">= 0.97",
            ratio >= 0.97,
        ),
        Figure("the same: losses at the end are equal to 0.0001", str(same).lower(), "", "true", same),
        Figure(
            "the fast path: CPU time of the plain Trainer over its own, to the same held-out loss",
            short(saved),
            "ratio",
            ">= 2",
            saved >= 2,
        ),
        Figure("the same: held-out loss of the plain Trainer at its best learning rate", short(fast["theirs"]), "nats"),
        Figure(
            "the same: held-out loss of the fast path",
            short(fast["ours"]),
            "nats",
            "<= theirs",
            fast["ours"] <= fast["theirs"],
        ),
        Figure("the same: steps of the fast path, where the plain Trainer takes 400", fast["steps"], "steps"),
        Figure(
            "killed and resumed: files that differ from an undisturbed training's",
            killed["different"],
            "files",
            "0",
            killed["different"] == 0,
        ),
        Figure("killed and resumed: steps that were not taken again", killed["resumed_from"], "steps"),
    ]
    for name, found in lived.items():
        holds = found["spoken"] > 0 and found["sampler"] == "vllm"
        figures.append(
            Figure(f"{name}: a generation end to end, texts by vLLM", found["spoken"], "texts", "> 0", holds)
        )
    return figures


def _remembered(name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    file = _WORK / f"{name}.json"
    if not file.exists():
        started = time.monotonic()
        found = make()
        _WORK.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({**found, "seconds": round(time.monotonic() - started, 1)}))
        print(f"{name}: {file.read_text()}", flush=True)
    return dict(json.loads(file.read_text()))


def _texts() -> tuple[list[str], list[str]]:
    store = _WORK / "store"
    asked = IngestSettings(passage_characters=(80, 360), split_by="source", reserve_records=1000, heldout_records=300)
    ingest(store, "docs", [DOCSTRINGS], asked)
    run = Run(store, "bench")
    run.begin({}, set(), {})
    human = pinned_human(Attempt(run, 0), "docs")
    reserve, heldout = (read_table(human[side].folder, ["text"])["text"].to_pylist() for side in ("reserve", "heldout"))
    return reserve, heldout


def _ancestor(texts: Sequence[str]) -> Path:
    """A model of one step, for its vocabulary: to learn one is in nobody's cost."""
    folder = _WORK / "ancestor"
    if not (folder / "probe.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _ours(_REFERENCE.model_copy(update={"human_only_steps": 1}), texts, None, folder)
    return folder


def _ours(
    settings: TransformerTraining, texts: Sequence[str], ancestor: Path | None, folder: Path
) -> tuple[float, float]:
    """CPU seconds of a training as a run does it, and its last loss."""
    from tasks.backends.transformer import train

    started = time.process_time()
    lesson = train(settings, Resources(), Corpus(texts, []), [], ancestor, None, folder, 0, _untold)
    return time.process_time() - started, lesson.log[-1].loss


def _theirs(settings: TransformerTraining, texts: Sequence[str], ancestor: Path, folder: Path) -> tuple[float, float]:
    """The same by transformers.Trainer as its documentation has it: spell, pack, train, save."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments, set_seed

    from tasks.backends.packing import Blocks, packed_stream

    started = time.process_time()
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(ancestor)
    stream = packed_stream(tokenizer, texts, settings.context, 0)
    blocks = Blocks([stream.next_block() for _ in range(settings.steps * settings.batch)])
    shape = AutoConfig.from_pretrained(ancestor, attn_implementation="eager")
    asked = TrainingArguments(
        output_dir=str(folder),
        max_steps=settings.steps,
        per_device_train_batch_size=settings.batch,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        adam_beta2=0.95,
        warmup_steps=settings.steps // 20,
        train_sampling_strategy="sequential",
        logging_steps=max(1, settings.steps // 20),
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        seed=0,
    )
    trainer = Trainer(AutoModelForCausalLM.from_config(shape), asked, train_dataset=blocks)
    trainer.train()
    trainer.model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    last = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry][-1]
    return time.process_time() - started, last


def _beside() -> dict[str, Any]:
    texts, _ = _texts()
    ancestor = _ancestor(texts)
    ratios, losses = [], []
    for turn in range(_ROUNDS + 1):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            ours, our_loss = _ours(_REFERENCE, texts, ancestor, Path(one))
            theirs, their_loss = _theirs(_REFERENCE, texts, ancestor, Path(other))
        # The first turn pays for what both import.
        if turn:
            ratios.append(theirs / ours)
            losses.append((our_loss, their_loss))
    return {"ratios": ratios, "losses": losses}


def _heldout_loss(model: Path, heldout: Sequence[str]) -> float:
    from tasks.backends.transformer import score

    scores = score(model, heldout, (1.0,), _untold)
    return sum(one.nats[0] for one in scores) / sum(one.tokens for one in scores)


def _fast() -> dict[str, Any]:
    texts, heldout = _texts()
    ancestor = _ancestor(texts)

    def tried(train: Callable[..., tuple[float, float]], settings: TransformerTraining) -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as name:
            cpu, _ = train(settings, texts, ancestor, Path(name))
            return cpu, _heldout_loss(Path(name), heldout)

    plain = {rate: _REFERENCE.model_copy(update={"steps": _LONG, "learning_rate": rate}) for rate in _RATES}
    found = {rate: tried(_theirs, settings) for rate, settings in plain.items()}
    rate = min(found, key=lambda one: found[one][1])
    goal = found[rate][1]
    fast = TransformerTraining.model_validate(_SHAPE)
    for steps in _FAST_STEPS:
        chosen = fast.model_copy(update={"steps": steps})
        ours = tried(_ours, chosen)
        if ours[1] <= goal:
            break
    ratios = [found[rate][0] / ours[0]]
    ratios += [tried(_theirs, plain[rate])[0] / tried(_ours, chosen)[0] for _ in range(_ROUNDS - 1)]
    return {"ratios": ratios, "theirs": goal, "ours": ours[1], "steps": steps, "learning_rate": rate}


def _killed() -> dict[str, Any]:
    texts, _ = _texts()
    ancestor = _ancestor(texts)
    settings = TransformerTraining.model_validate({**_SHAPE, "steps": 60})
    asked: tuple[Corpus, list[str], Path] = (Corpus(texts, []), [], ancestor)
    with tempfile.TemporaryDirectory() as name:
        killed, whole = Path(name) / "killed", Path(name) / "whole"
        killed.mkdir()
        whole.mkdir()
        backends = Backends(Resources(checkpoint_seconds=0.5), Path(name) / "logs")

        def kill(step: int, _: int) -> None:
            if step == 40:
                os.kill(backends._workers[0]._process.pid, signal.SIGKILL)  # noqa: SLF001

        try:
            backends.trainer(settings).train(*asked, whole, 1, _untold)
            try:
                backends.trainer(settings).train(*asked, killed, 1, kill)
            except WorkerError:
                resumed = backends.trainer(settings).train(*asked, killed, 1, _untold).resumed_from
        finally:
            backends.close()
        names = {path.name for folder in (killed, whole) for path in folder.iterdir()}
        return {"different": sum(_bytes(killed / one) != _bytes(whole / one) for one in names), "resumed_from": resumed}


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def _untold(*_: int) -> None:
    pass
