"""Measure fine-tuning of SmolLM2 against `trl.SFTTrainer`, memory of scoring, and the cost of measuring a loop.

Both trainers see the same rows in the same order, with the settings of `train.preset = "full-finetune"`. Each side runs
in a process of its own, whose peak memory is read at its end. Needs the extras train and smollm2, `wikitext2-valid.txt`
in the folder of `HEIRLOOM_TEST_DATA`, and two free cores for about a quarter of an hour.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, short
from curation.splitting import IngestSettings
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from flows.ingest import ingest
from storage.runs.run import Run
from storage.runs.status import attempt_summaries
from tasks.backends import Sampling, TrainingCorpus, TrainJob, TransformerTraining
from tasks.backends.models.pretrained import resolve_model
from tasks.orchestration.prefect import without_prefect

_STEPS, _WARM_STEPS, _NUM_TEXTS = 12, 2, 64
"""Steps of a training, of which the first ones are not timed, and texts that are trained on and scored."""


def measure() -> list[Figure]:
    """Run both trainers, score texts, and run a loop of two generations."""
    ours, theirs, scored = (_in_process(side) for side in ("ours", "theirs", "score"))
    speed = theirs["seconds_per_step"] / ours["seconds_per_step"]
    memory = ours["peak_gib"] / theirs["peak_gib"]
    apart = max(abs(one - other) for one, other in zip(ours["losses"], theirs["losses"], strict=True))
    share, peak = _measure_share(), scored["peak_gib"]
    return [
        Figure(
            "fine-tuning: tokens per second, Heirloom / trl.SFTTrainer", short(speed), "ratio", ">= 0.97", speed >= 0.97
        ),
        Figure("fine-tuning: peak memory, Heirloom / trl.SFTTrainer", short(memory), "ratio", "<= 1.2", memory <= 1.2),
        Figure("fine-tuning: largest difference of a logged loss", short(apart), "nats", "<= 0.001", apart <= 0.001),
        Figure(
            "scoring at ten temperatures: peak memory",
            short(peak),
            "GiB",
            "<= 2",
            peak <= 2,
        ),
        Figure("scoring at ten temperatures: tokens per second", round(scored["tokens_per_second"]), "tokens/s"),
        Figure(
            "loop: seconds of measuring / generating, worst generation", short(share), "ratio", "<= 0.15", share <= 0.15
        ),
    ]


def _texts() -> list[str]:
    file = Path(os.environ.get("HEIRLOOM_TEST_DATA", "")) / "wikitext2-valid.txt"
    if not file.is_file():
        raise ValueError(f"{file} does not exist. Set HEIRLOOM_TEST_DATA to the folder of wikitext2-valid.txt.")
    passages = [line.strip() for line in file.read_text().splitlines() if 300 < len(line) < 900]
    return passages[:_NUM_TEXTS]


def _in_process(side: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.performance.finetuning", side]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(printed.splitlines()[-1]))


def _job(folder: Path) -> TrainJob[TransformerTraining]:
    settings = TransformerTraining(
        base_model="smollm2", init_from="base", objective="sft", generation_0_max_steps=_STEPS, context_length=512
    )
    # Halves of a passage stand for a prompt and its response.
    pairs = [(text[: len(text) // 2], text[len(text) // 2 :]) for text in _texts()]
    corpus = TrainingCorpus(pairs, [])
    return TrainJob(settings=settings, corpus=corpus, initial_weights=resolve_model("smollm2"), folder=folder, seed=1)


def _ours(folder: Path) -> dict[str, Any]:
    from tasks.backends.training.trainer import train_in_process

    ticks: list[float] = []
    result = train_in_process(_job(folder), lambda *_: ticks.append(time.perf_counter()))
    return {"losses": [point.loss for point in result.log], "seconds_per_step": _pace(ticks)}


def _theirs(folder: Path) -> dict[str, Any]:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from tasks.backends.models.loading import load_tokenizer
    from tasks.backends.training.data import build_train_plan
    from tasks.backends.training.trainer import use_bf16

    job = _job(folder)
    settings, model = job.settings, str(job.initial_weights)
    tokenizer = load_tokenizer(model)
    network = AutoModelForCausalLM.from_pretrained(model, dtype="float32")
    plan = build_train_plan(settings, job.corpus, tokenizer, True, job.seed)
    rows = Dataset.from_list([plan.rows[index] for index in range(len(plan.rows))])
    ticks: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:  # noqa: ANN401  (the library's signature)
            ticks.append(time.perf_counter())

    arguments = SFTConfig(
        output_dir=str(folder),
        max_steps=_STEPS,
        per_device_train_batch_size=settings.batch_size,
        train_sampling_strategy="sequential",
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler,
        warmup_steps=max(1, int(_STEPS * settings.warmup_ratio)),
        weight_decay=settings.weight_decay,
        adam_beta2=settings.adam_beta2,
        bf16=use_bf16(settings, network.config.hidden_size),
        seed=job.seed,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    trainer = SFTTrainer(network, arguments, processing_class=tokenizer, train_dataset=rows, callbacks=[Clock()])
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {"losses": losses, "seconds_per_step": _pace(ticks)}


def _score(_: Path) -> dict[str, Any]:
    from curation.metrics.settings import TEMPERATURES
    from tasks.backends.transformer import score

    started = time.perf_counter()
    scores = score(resolve_model("smollm2"), _texts(), TEMPERATURES, lambda *_: None)
    return {"tokens_per_second": sum(text.tokens for text in scores) / (time.perf_counter() - started)}


def _pace(ticks: list[float]) -> float:
    return statistics.median(end - start for start, end in pairwise(ticks[_WARM_STEPS:]))


def _measure_share() -> float:
    """Run a loop of two generations with default sizes, and return the worst share of measuring in generating."""
    with tempfile.TemporaryDirectory() as name, without_prefect():
        site = Site(store=Path(name) / "store")
        source = Path(name) / "passages.txt"
        source.write_text("\n\n".join(_texts()))
        ingest([str(source)], "passages", IngestSettings(max_heldout_records=100), site)
        train = TransformerTraining(base_model="smollm2", init_from="previous", max_steps=10, generation_0_max_steps=10)
        recipe = Recipe(
            name="real", dataset="passages", num_generations=2, train=train, generate=Sampling(max_tokens=128)
        )
        recipe = recipe.model_copy(
            update={"prompts": recipe.prompts.model_copy(update={"prompts_per_human_record": 6.0})}
        )
        evolve(recipe, site)
        shares = [attempt.cost.measure_share for attempt in attempt_summaries(Run(site.store, "real"))]
        return max(share for share in shares if share is not None)


_SIDES: dict[str, Callable[[Path], dict[str, Any]]] = {"ours": _ours, "theirs": _theirs, "score": _score}


def _main(side: str) -> None:
    """Run one side, and print what it measured with the peak memory of this process."""
    with tempfile.TemporaryDirectory() as folder:
        found = _SIDES[side](Path(folder))
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps({**found, "peak_gib": peak_gib}), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
