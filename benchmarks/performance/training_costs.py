"""Train as a run does and as transformers' Trainer does.

CPU seconds of this process, alternating on the same blocks.
"""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import WORK
from curation.splitting import IngestSettings
from storage.artifacts.artifact import read_table
from storage.readers.discovery import PYTHON_DOCS
from storage.runs.run import Attempt, Run
from tasks.backends import TrainingCorpus, TrainJob, TransformerTraining
from tasks.ingestion.ingest import ingest, load_pinned_human

FOLDER = WORK / "training"
_TURNS, _ROUNDS = 10, 3
"""Of the same training by both, ten seconds each; and of the same loss by both, a minute each."""
SHAPE = {
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "context_length": 128,
    "vocab_size": 2048,
    "batch_size": 8,
    "precision": "float32",
}
_REFERENCE = TransformerTraining.model_validate(
    {
        **SHAPE,
        "optimizer": "adamw",
        "learning_rate": 0.003,
        "chunked_cross_entropy": False,
        "weight_decay": 0.1,
        "max_steps": 100,
        # As the plain Trainer has them.
        "lr_scheduler": "linear",
        "warmup_ratio": 0.05,
    }
)
_LONG = 400
"""Steps of the plain Trainer, about as many as the passages bear without overfitting."""
_RATES = (0.001, 0.003, 0.006)
_FAST_STEPS = (100, 130, 160, 200, 240, 280, 320, 400)


def beside() -> dict[str, Any]:
    """The same training by both: what each cost each time, and both last losses."""
    texts, _ = human_texts()
    ancestor = ancestor_of(texts)
    costs, losses = [], []
    for turn in range(_TURNS + 1):
        found = {}
        # Who begins takes turns: what a machine gives changes from one ten seconds to the next.
        for train in (_ours, _theirs) if turn % 2 else (_theirs, _ours):
            with tempfile.TemporaryDirectory() as name:
                found[train] = train(_REFERENCE, texts, ancestor, Path(name))
        # The first turn pays for what both import.
        if turn:
            costs.append((found[_ours][0], found[_theirs][0]))
            losses.append((found[_ours][1], found[_theirs][1]))
    return {"costs": costs, "losses": losses}


def fast_path() -> dict[str, Any]:
    """What the plain Trainer takes over what ours takes to its held-out loss."""
    texts, heldout = human_texts()
    ancestor = ancestor_of(texts)

    def tried(train: Callable[..., tuple[float, float]], settings: TransformerTraining) -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as name:
            cpu, _ = train(settings, texts, ancestor, Path(name))
            return cpu, _heldout_loss(Path(name), heldout)

    plain = {rate: _REFERENCE.model_copy(update={"max_steps": _LONG, "learning_rate": rate}) for rate in _RATES}
    found = {rate: tried(_theirs, settings) for rate, settings in plain.items()}
    rate = min(found, key=lambda one: found[one][1])
    goal = found[rate][1]
    fast = TransformerTraining.model_validate(SHAPE)
    for steps in _FAST_STEPS:
        chosen = fast.model_copy(update={"max_steps": steps})
        ours = tried(_ours, chosen)
        if ours[1] <= goal:
            break
    ratios = [found[rate][0] / ours[0]]
    ratios += [tried(_theirs, plain[rate])[0] / tried(_ours, chosen)[0] for _ in range(_ROUNDS - 1)]
    return {"ratios": ratios, "theirs": goal, "ours": ours[1], "steps": steps, "learning_rate": rate}


def human_texts() -> tuple[list[str], list[str]]:
    """Passages to learn from, and those held out."""
    store = FOLDER / "store"
    asked = IngestSettings(
        passage_length_chars=(80, 360), split_by="source", max_train_records=1000, max_heldout_records=300
    )
    ingest(store, "docs", [PYTHON_DOCS], asked)
    run = Run(store, "bench")
    run.initialize({}, set(), {})
    human = load_pinned_human(Attempt(run, 0), "docs")
    reserve, heldout = (
        read_table(artifact.folder, ["text"])["text"].to_pylist() for artifact in (human.train, human.heldout)
    )
    return reserve, heldout


def ancestor_of(texts: Sequence[str]) -> Path:
    """A model of one step, for its tokenizer: training one is not measured."""
    folder = FOLDER / "ancestor"
    if not (folder / "probe.json").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _ours(_REFERENCE.model_copy(update={"generation_0_max_steps": 1}), texts, None, folder)
    return folder


def _ours(
    settings: TransformerTraining, texts: Sequence[str], ancestor: Path | None, folder: Path
) -> tuple[float, float]:
    """CPU seconds of a training as a run does it, and its last loss."""
    from tasks.backends.transformer import train

    started = time.process_time()
    corpus = TrainingCorpus(texts, [])
    result = train(TrainJob(settings=settings, corpus=corpus, gen0_model=ancestor, folder=folder, seed=0), untold)
    return time.process_time() - started, result.log[-1].loss


def _theirs(settings: TransformerTraining, texts: Sequence[str], ancestor: Path, folder: Path) -> tuple[float, float]:
    """The same by transformers.Trainer as its documentation has it: spell, pack, train, save."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments, set_seed

    from tasks.backends.training.data import BlockFormat, PackedDataset, pack_sequences

    started = time.process_time()
    set_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(ancestor)
    stream = pack_sequences(tokenizer, texts, BlockFormat(settings.context_length), 0)
    blocks = PackedDataset([stream.next_block() for _ in range(settings.max_steps * settings.batch_size)])
    shape = AutoConfig.from_pretrained(ancestor, attn_implementation="eager")
    asked = TrainingArguments(
        output_dir=str(folder),
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        adam_beta2=0.95,
        warmup_steps=settings.max_steps // 20,
        train_sampling_strategy="sequential",
        logging_steps=max(1, settings.max_steps // 20),
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


def _heldout_loss(model: Path, heldout: Sequence[str]) -> float:
    from tasks.backends.transformer import score

    scores = score(model, heldout, (1.0,), untold)
    return sum(one.nll[0] for one in scores) / sum(one.tokens for one in scores)


def untold(*_: int) -> None:
    """Ignore progress."""
