"""Compare best of k, several teachers and quotas with plain sampling at the same budget.

Models are n-grams (`backend = "ngram"`). Teachers are trained on texts whose first words name their attributes
(`benchmarks/support/template_model_server.py`), so completions can be checked against their prompts.
"""

import json
import random
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import WORK, Figure, short
from benchmarks.performance.sampling_gain import quota_figures
from benchmarks.support.template_model_server import GRID, body, delivered, header
from curation.metrics.lexical_diversity import lexical_diversity
from curation.selection.best_of import words_per_text
from curation.splitting import DedupSettings, IngestSettings
from flows.config.recipe import Recipe
from flows.config.site import Site
from flows.evolve import evolve
from storage.artifacts.artifact import read_table
from storage.readers.discovery import PYTHON_DOCS
from tasks.backends import NgramTraining, Prompt, Resources, Sampling, TrainingCorpus, TrainJob
from tasks.backends.toy.ngram import sample, train
from tasks.ingestion.ingest import ingest
from tasks.orchestration.prefect import without_prefect
from tests.support.progress import ignore_progress

STORE = WORK / "reproductions" / "sampling"
_PLAIN: dict[str, Any] = {
    "dataset": "docs",
    "num_generations": 1,
    "curate": {"filters": []},
    "mix": {"policy": "replace"},
    "train": {"backend": "ngram"},
    "evaluate": {"num_samples": 300, "embedding_sample_records": 50},
    "gate": {"limits": []},
}
_SUBJECTS = GRID["subject"]
_SKILLS = {"one": _SUBJECTS[:2], "two": _SUBJECTS[2:4], "three": _SUBJECTS[4:]}
_KNOWS, _GUESSES = 0.8, 0.3
"""How often a teacher's text is about its subject, on a subject of its own and on any other."""
_NUM_EXAMPLES, _TESTS = 2000, 1000


def best_of(*, seeds: Sequence[int] = (0, 1, 2), records: int = 300, answers: int = 5) -> Iterator[Figure]:
    """Shimabucoro et al. 2024, arXiv:2407.01490.

    What a student becomes that learns the best of k answers by an attribute.
    """
    _docstrings(records)
    measured = {"length": words_per_text, "lexical_diversity": lexical_diversity}
    published = {"length": "+116 % at most: rises", "lexical_diversity": "+43 % at most: rises"}
    for objective, worth in measured.items():
        chosen = {"filters": ["best_of"], "best_of": {"objective": objective}}
        gains, plain = [], []
        for seed in seeds:
            best = {"prompts": {"completions_per_prompt": answers}, "curate": chosen}
            results = [
                worth(_voice(f"best-of-{name}", seed, more)).mean()
                for name, more in ((objective, best), ("nothing", {}))
            ]
            gains.append(results[0] / results[1] - 1)
            plain.append(results[1])
        shared = (
            f"best of {answers} by {objective.replace('_', ' ')}: student / student trained without selection, minimum "
            "over seeds"
        )
        yield Figure(shared, short(100 * min(gains)), "% more", published[objective], min(gains) > 0)


def quota() -> Iterator[Figure]:
    """Systematic sampling by the rarity of a text's rarest word, against random selection, under replacement."""
    yield from quota_figures()


def teachers(*, seeds: Sequence[int] = (0, 1, 2), prompts: int = 400, generations: int = 3) -> Iterator[Figure]:
    """Odumakinde et al. 2024, arXiv:2408.14960.

    Who is asked what, of three teachers who each know some of five subjects.
    """
    folders = tuple((name, _teacher(name, subjects)) for name, subjects in _SKILLS.items())
    site = Site(store=STORE, resources=Resources(local_models=folders))
    honest("headers", prompts, {})
    right: dict[str, list[float]] = {name: [] for name in _arbitrage()}
    asked = {"template_name": "benchmarks.reproduced_sampling:headers", "output_format": "prompt_and_completion"}
    shared = {
        "dataset": "headers",
        "num_generations": generations,
        "train": {"backend": "ngram", "order": 5},
        "prompts": asked,
    }
    for seed in seeds:
        for name, more in _arbitrage().items():
            run = f"{name.replace(' ', '-')}-{seed}"
            lived(run, seed, {**shared, **more}, site)
            last = STORE / "runs" / run / f"generation={generations}" / "attempt=1"
            right[name].append(_right(last / "model", seed))
    for name, found in right.items():
        yield Figure(
            f"{name}: student completions on the requested subject, mean of seeds",
            short(statistics.mean(found)),
            "share",
        )
    plain = [max(pair) for pair in zip(right["one teacher"], right["random teacher"], strict=True)]
    for name in ("reward", "fixed route", "learned route"):
        least = min(one / other for one, other in zip(right[name], plain, strict=True))
        better = f"{name}: over the better of one teacher and random teacher, minimum over seeds"
        yield Figure(better, short(least), "ratio", "> 1, up to 1.565 of win rates", least > 1)
    order = [statistics.mean(right[name]) for name in ("reward", "fixed route", "learned route")]
    ranked = order[0] > order[1] > order[2]
    yield Figure(
        "reward, fixed and learned routes in this order", str(ranked).lower(), "", "reward > fixed > learned", ranked
    )


def headers(reserve: list[str], count: int, seed: int) -> list[tuple[str, dict[str, str]]]:  # noqa: ARG001
    """A program that asks for every subject alike."""
    rng = random.Random(seed)  # noqa: S311  (a prompt, not a secret)
    asked = [{name: rng.choice(values) for name, values in GRID.items()} for _ in range(count)]
    return [(header(one), {"subject": one["subject"]}) for one in asked]


def worth(prompts: Sequence[str], texts: Sequence[str]) -> list[float]:
    """A judge: 1 for a text about the subject that its prompt asks for."""
    return [float(delivered(text)["subject"] == asked.split()[0]) for asked, text in zip(prompts, texts, strict=True)]


def _arbitrage() -> dict[str, dict[str, Any]]:
    """What of a recipe each way to share prompts among teachers sets."""
    everybody = {"sampler": "ngram", "teachers": list(_SKILLS), "max_tokens": 60}
    judged = {"filters": ["best_of"], "best_of": {"objective": "benchmarks.reproduced_sampling:worth"}}
    route = {subject: name for name, subjects in _SKILLS.items() for subject in subjects}
    return {
        "one teacher": {"generate": {"sampler": "ngram", "teacher": "one", "max_tokens": 60}},
        "random teacher": {"generate": everybody},
        "learned route": {"generate": {**everybody, "teacher_routing": "routed"}, "curate": judged},
        "fixed route": {"generate": {**everybody, "teacher_map": route}},
        "reward": {"generate": {**everybody, "teacher_routing": "reward"}, "curate": judged},
    }


def lived(run: str, seed: int, more: Mapping[str, Any], site: Site) -> None:
    """Execute a run without curation under replacement, with the given changes."""
    with without_prefect():
        evolve(Recipe.model_validate({**_PLAIN, **more, "name": run, "seed": seed}), site)


def _voice(run: str, seed: int, more: Mapping[str, Any]) -> list[str]:
    """Samples of the student."""
    lived(f"{run}-{seed}", seed, more, Site(store=STORE))
    folder = STORE / "runs" / f"{run}-{seed}" / "generation=1" / "attempt=1" / "eval_samples"
    rows = read_table(folder, ["prompt", "text"]).to_pylist()
    return [row["text"] for row in rows if not row["prompt"]]


def _docstrings(records: int) -> None:
    settings = IngestSettings(passage_length_chars=(80, 360), max_train_records=records, max_heldout_records=100)
    with without_prefect():
        ingest(STORE, "docs", [PYTHON_DOCS], settings)


def honest(name: str, records: int, weights: Mapping[str, Sequence[float]]) -> None:
    """Ingest texts with correct headers; `weights` makes some attribute values rarer than others."""
    rng = random.Random(0)  # noqa: S311  (text, not a secret)
    texts: dict[str, None] = {}
    while len(texts) < 2 * records:
        asked = {one: rng.choices(values, weights.get(one))[0] for one, values in GRID.items()}
        texts[f"{header(asked)} {body(asked, rng)}"] = None
    file = STORE / f"{name}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    with without_prefect():
        ingest(
            STORE,
            name,
            [str(file)],
            IngestSettings(dedup=DedupSettings(method="exact"), max_train_records=records, max_heldout_records=100),
        )


def _teacher(name: str, subjects: Sequence[str]) -> Path:
    """A model that is accurate on its subjects and seldom on others."""
    folder, rng = STORE / "teachers" / name, random.Random(name)  # noqa: S311  (text, not a secret)
    if not (folder / "ngram.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        examples = []
        for _ in range(_NUM_EXAMPLES):
            asked = {one: rng.choice(values) for one, values in GRID.items()}
            right = rng.random() < (_KNOWS if asked["subject"] in subjects else _GUESSES)
            about = asked["subject"] if right else rng.choice([one for one in _SUBJECTS if one != asked["subject"]])
            examples.append(f"{header(asked)} {body({**asked, 'subject': about}, rng)}")
        corpus = TrainingCorpus(examples, [])
        train(TrainJob(settings=NgramTraining(order=5), corpus=corpus, folder=folder, seed=0), ignore_progress)
    return folder


def _right(model: Path, seed: int) -> float:
    """Share of a student's answers that are about the subject it was asked for."""
    asked = [header(dict(one)) for one in _tests(seed)]
    prompts = [Prompt(text, place) for place, text in enumerate(asked)]
    results = sample(Sampling(sampler="ngram", max_tokens=60), Resources(), model, prompts, ignore_progress)
    answers = [text + one.text for text, one in zip(asked, (one for some in results for one in some), strict=True)]
    return statistics.mean(worth(asked, answers))


def _tests(seed: int) -> Iterator[dict[str, str]]:
    rng = random.Random(1000 + seed)  # noqa: S311  (a prompt, not a secret)
    for _ in range(_TESTS):
        yield {name: rng.choice(values) for name, values in GRID.items()}


if __name__ == "__main__":
    for row in (best_of, quota, teachers):
        for figure in row():
            print(figure.name, figure.value, figure.unit, "|", figure.goal, figure.holds, flush=True)
