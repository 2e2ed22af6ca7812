"""Measure how often each prompt template gets the requested attributes, from a tiny model that follows headers.

The model is trained on the prompts of every template with correct completions
(`benchmarks/support/template_model_server.py`). Attributes that it misses are limits of a tiny model; those that it
delivers show that prompts arrive as planned.
"""

import json
import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchmarks.figures import WORK, Figure, short
from benchmarks.support.generations import partial_generation
from benchmarks.support.template_model_server import GRID, PERSONAS, asked_by, body, delivered, header, human_record
from curation.mixing import MixSettings
from curation.pipeline import CurateSettings
from curation.prompts.plan import PromptSettings
from curation.prompts.templates import TEMPLATES, render_template
from curation.splitting import DedupSettings, IngestSettings
from flows.config.recipe import Recipe
from heirloom.chat import render_chat, to_messages
from storage.artifacts.artifact import Artifact, read_table
from storage.query.catalog import open_catalog
from storage.query.named_queries import QUERIES
from storage.runs.run import Attempt, Run
from tasks.backends import Resources, Sampling, TrainingCorpus, TrainJob, TransformerTraining
from tasks.backends.registry import Backends
from tasks.context import CuratedCandidates, GenerationHistory, HumanData, StageContext
from tasks.curation.curate import curate
from tasks.generation.generate import generate
from tasks.ingestion.ingest import ingest, load_pinned_human
from tasks.mix import mix
from tasks.orchestration.prefect import without_prefect

_STORE = WORK / "generation" / "delivery"
_SHAPE = TransformerTraining(
    hidden_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    context_length=256,
    vocab_size=512,
    generation_0_max_steps=500,
    max_steps=500,
    batch_size=8,
)
_NUM_EXAMPLES, _RECORDS = 6000, 700
_SAMPLING = Sampling(sampler="vllm", max_tokens=80)
_TEMPLATE = "{subject} {format} {length} :"
# Recipe values that the catalog shows; these runs are built step by step.
_RECIPE = Recipe.model_validate({"name": "delivery", "dataset": "texts"}).model_dump(mode="json")
_serial = count(int(time.time()))


def _context(attempt: Attempt, backends: Backends, **sections: BaseModel) -> StageContext:
    recipe = Recipe.model_validate({"name": "delivery", "dataset": "texts", "generate": _SAMPLING, **sections})
    return StageContext(attempt=attempt, recipe=recipe, backends=backends)


def figures() -> list[Figure]:
    """Delivered attributes of each program; a grid of sixty cells; best of five by lexical diversity."""
    with without_prefect(), _backends() as backends:
        run, model, human = _taught(backends)
        return [
            *_programs(run, model, human, backends),
            *_grid(model, human, backends),
            *_best(model, backends),
        ]


def every_word(reserve: list[str], count: int, seed: int) -> list[tuple[str, dict[str, str]]]:  # noqa: ARG001
    """A custom prompt function: every attribute at random."""
    rng = random.Random(seed)  # noqa: S311  (a prompt, not a secret)
    asked = [{name: rng.choice(values) for name, values in GRID.items()} for _ in range(count)]
    return [(header(one), one) for one in asked]


@contextmanager
def _backends() -> Iterator[Backends]:
    backends = Backends(Resources(kv_cache_mib=256), _STORE / "logs")
    try:
        yield backends
    finally:
        backends.close()


def _taught(backends: Backends) -> tuple[Run, Artifact, dict[str, HumanData]]:
    """A run with the model that was taught, and human texts.

    `texts` with their headers, and `chats` of a header and a text.
    """
    rng = random.Random(0)  # noqa: S311
    run = Run(_STORE, "delivery")
    run.initialize(_RECIPE, set(), {})
    texts = list(dict.fromkeys(human_record(rng) for _ in range(_RECORDS)))
    chats = [render_chat(to_messages(*_halves(text))) for text in texts]
    human = {name: _human(run, name, found) for name, found in (("texts", texts), ("chats", chats))}
    model = Attempt(run, 0).artifact("model", {"examples": _NUM_EXAMPLES, "shape": _SHAPE.model_dump(mode="json")})
    if not model.exists():
        with model.draft() as draft:
            examples = [_example(rng) for _ in range(_NUM_EXAMPLES)]
            job = TrainJob(settings=_SHAPE, corpus=TrainingCorpus(examples, []), folder=draft.folder, seed=0)
            backends.trainer().train(job, lambda *_: None)
    return run, model, human


def _human(run: Run, name: str, texts: list[str]) -> HumanData:
    file = _STORE / f"{name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    settings = IngestSettings(dedup=DedupSettings(method="exact"))
    ingest(_STORE, name, [str(file)], settings)
    return load_pinned_human(Attempt(run, 0, 1 if name == "texts" else 2), name)


def _halves(text: str) -> tuple[str, str]:
    asked, _, completion = text.partition(" : ")
    return f"{asked} :", completion


def _example(rng: random.Random) -> str:
    """The prompt of one program and an honest answer."""
    program = rng.choice([*TEMPLATES, "header"])
    record = human_record(rng)
    asked = asked_by(record)
    if program == "persona":
        asked["persona"] = rng.choice(PERSONAS)
    first = header(asked)
    slots = {
        "record": record,
        "opening": first,
        "question": first,
        "earlier": record if rng.random() < 0.5 else _halves(record)[1],
    }
    prompt = first if program == "header" else render_template(TEMPLATES[program], {**slots, **asked})
    return f"{prompt} {body(asked, rng)}"


def _programs(run: Run, model: Artifact, human: Mapping[str, HumanData], backends: Backends) -> Iterator[Figure]:
    asked: dict[str, dict[str, Any]] = {name: {} for name in ("prefix", *TEMPLATES)}
    asked["persona"] = {"attributes": {"persona": PERSONAS}}
    asked["template"] = {"template": _TEMPLATE, "attributes": GRID}
    asked["benchmarks.delivery:every_word"] = {}
    for program, more in asked.items():
        data = human["chats" if program == "distill" else "texts"]
        settings = PromptSettings.model_validate({"template_name": program, "prompts_per_human_record": 0.7, **more})
        ctx = _context(Attempt(run, 1, next(_serial)), backends, prompts=settings)
        made = generate(ctx, data, GenerationHistory(), model)
        parents = {row["id"]: row["text"] for row in read_table(data.train.folder, ["id", "text"]).to_pylist()}
        hits: Counter[str] = Counter()
        tried: Counter[str] = Counter()
        for row in read_table(made.folder).to_pylist():
            text = (
                row["text"].removeprefix(row["prompt"])
                if settings.resolved_output_format == "prompt_and_completion"
                else row["text"]
            )
            wanted = dict(row["attributes"]) or asked_by(row["prompt"])
            if row["parents"]:
                wanted = {**delivered(parents[row["parents"][0]]), "persona": "", **wanted}
            found = delivered(text.rpartition("### assistant\n")[2])
            for name in (name for name in wanted if wanted[name]):
                tried[name] += 1
                hits[name] += wanted[name] == found[name]
        for name in tried:
            yield Figure(
                f"{program.rpartition(':')[2]}: requested {name} delivered",
                short(hits[name] / tried[name]),
                f"of {tried[name]}",
            )


def _grid(model: Artifact, human: Mapping[str, HumanData], backends: Backends) -> Iterator[Figure]:
    """Three generations that top up what curation leaves short, and a corpus with as many of each cell."""
    texts = human["texts"]
    records = read_table(texts.train.folder, ["id"]).num_rows
    settings = PromptSettings.model_validate(
        {
            "template_name": "template",
            "template": _TEMPLATE,
            "attributes": GRID,
            "prompts_per_human_record": 600 / records,
        }
    )
    curate_settings = CurateSettings.model_validate({"filters": ["empty", "exact", "minhash"], "encoder": "hashing"})
    fixed = MixSettings.model_validate(
        {"policy": "fixed-fraction", "human_fraction": 0.0, "num_records": 300, "stratify_by": "attributes"}
    )
    grid = Run(_STORE, f"grid-{next(_serial)}")
    grid.initialize(_RECIPE, set(), {})
    history, candidates = GenerationHistory(), list[Artifact]()
    for number in (1, 2, 3):
        ctx = _context(Attempt(grid, number), backends, prompts=settings, curate=curate_settings, mix=fixed)
        data = load_pinned_human(ctx.attempt, "texts")
        candidates.append(generate(ctx, data, history, model))
        decisions = curate(ctx, data, history, candidates[-1])
        curated = CuratedCandidates(candidates=candidates[-1], decisions=decisions)
        if number == 3:
            corpus = mix(ctx, data, history, curated)
        history = GenerationHistory((*history, partial_generation(ctx.attempt, model, curated)))
        grid.append("accepted", number, 1)
    asked_cells = Counter(
        str(row["attributes"]) for row in read_table(candidates[0].folder, ["attributes"]).to_pylist()
    )
    cell = {
        row["id"]: str(row["attributes"]) for row in read_table(candidates[-1].folder, ["id", "attributes"]).to_pylist()
    }
    taken = Counter(cell[one] for one in read_table(corpus.folder, ["id"])["id"].to_pylist())
    rows = open_catalog(_STORE, [grid.name]).execute(QUERIES["quota_fill"]).fetchall()
    left = Counter[str]()
    for _, _, named, _, kept, _ in rows:
        left[named] += kept
    lost = sum(row[5] for row in rows)
    spread = max(left.values()) - min(left.values())
    unlike = sum(times != 10 for times in asked_cells.values()) + 60 - len(asked_cells)
    yield Figure("grid of 5 x 4 x 3: cells not prompted exactly 10 times of 600", unlike, "", "0", unlike == 0)
    yield Figure(
        "the same: survivors in three generations, missing cells topped up",
        lost,
        f"of {sum(left.values()) + lost}",
    )
    yield Figure("the same: maximum minus minimum survivors of a cell after these", spread, "")
    wrong = sum(times != 5 for times in taken.values()) + 60 - len(taken)
    yield Figure("the same: cells without exactly 5 of the 300 records of the corpus", wrong, "", "0", wrong == 0)


def _best(model: Artifact, backends: Backends) -> Iterator[Figure]:
    settings = PromptSettings(template_name="prefix", prompts_per_human_record=0.5, completions_per_prompt=5)
    curate_settings = CurateSettings(filters=("best_of",))
    chosen = Run(_STORE, f"best-{next(_serial)}")
    chosen.initialize(_RECIPE, set(), {})
    ctx = _context(Attempt(chosen, 1), backends, prompts=settings, curate=curate_settings)
    data = load_pinned_human(ctx.attempt, "texts")
    made = generate(ctx, data, GenerationHistory(), model)
    curate(ctx, data, GenerationHistory(), made)
    chosen.append("accepted", 1, 1)
    ((_, _, _, answers, kept, worth, best, _),) = (
        open_catalog(_STORE, [chosen.name]).execute(QUERIES["best_of_stats"]).fetchall()
    )
    assert answers == 5 * kept
    yield Figure(
        "best of 5 by lexical diversity: mean MTLD, selected / all",
        short(best / worth),
        "ratio",
        "> 1",
        best > worth,
    )


if __name__ == "__main__":
    started = time.monotonic()
    for figure in figures():
        print(figure.name, figure.value, figure.unit, figure.goal, figure.holds, flush=True)
    print(f"{time.monotonic() - started:.0f} s", Path(__file__).name)
