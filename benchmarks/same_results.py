"""Compare the results of two checkouts: the same inputs, recipes and seed, run by each through its own command line.

`HEIRLOOM_BEFORE` names the older checkout, or a folder of results that an earlier comparison kept:

    HEIRLOOM_BEFORE=/path/to/older python -m benchmarks same_results
    python -m benchmarks.same_results --before /path/to/older --case ngram      # one backend, and the rows that differ

Compared, with `==`, so that a float must be equal to the last bit:

* the ingested human records, held-out records and eval set: ids and texts, in order;
* of each generation and attempt the columns that `TABLES` lists: candidates, decisions, corpus, metrics and more;
* the files of each model (`MODEL_FILES`), byte by byte.

Not compared: manifests, fingerprints, times, reasons and other sentences, which a rename changes on purpose.

The recipes below use the present names. `RECIPE_KEYS` and `RECIPE_VALUES` translate them for an older checkout.
`FOLDERS`, `COLUMNS` and `METRICS` translate what it stored. Either side may use either name.
Parquet files are read with pyarrow, without code of either checkout.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeAlias

import httpx
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.figures import WORK, Figure

BEFORE = "HEIRLOOM_BEFORE"
WITH_VLLM = "HEIRLOOM_WITH_VLLM"
"""Set to 1, it adds the case `vllm`, which loads an engine for each model: about a minute a side."""

Recipe: TypeAlias = Mapping[str, Any]
"""Dotted keys and their values."""
Rows: TypeAlias = dict[tuple[Any, ...], tuple[Any, ...]]
"""Compared values by what identifies a row: its key columns, or its position."""

_ROOT = Path(__file__).parents[1]
_FOLDER = WORK / "same_results"
_SHOWN = 3
"""Rows that differ, printed for each table."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run: a recipe on one ingested dataset."""

    name: str
    dataset: str
    recipe: Recipe


_FILTERS = (
    *("empty", "exact", "best_of", "quality", "language", "pii", "decontamination", "human_overlap", "minhash"),
    *("perplexity", "importance_resampling", "semantic", "diversity"),
)
_TRANSFORMER = {
    "num_generations": 2,
    "prompts.template_name": "unconditional",
    "prompts.prompts_per_human_record": 0.25,
    "generate.sampler": "transformers",
    "generate.max_tokens": 24,
    "curate.filters": ["empty", "exact", "human_overlap", "minhash"],
    "mix.policy": "anchor",
    "train.backend": "transformer",
    "train.init_from": "previous",
    "train.max_steps": 12,
    "train.generation_0_max_steps": 16,
    "train.human_ratio_schedule": "ramp",
    "train.hidden_size": 64,
    "train.num_hidden_layers": 1,
    "train.num_attention_heads": 2,
    "train.context_length": 64,
    "train.vocab_size": 320,
    "train.batch_size": 4,
    "train.precision": "float32",
    "evaluate.num_samples": 10,
    "evaluate.showcase_prompt": "The old",
    "evaluate.embedding_sample_records": 40,
}
CASES = (
    Case(
        name="ngram",
        dataset="letters",
        recipe={
            "num_generations": 3,
            "prompts.template_name": "prefix",
            "prompts.prefix_words": 3,
            "prompts.completions_per_prompt": 3,
            "prompts.topic_steering.num_topics": 4,
            "prompts.topic_steering.encoder": "hashing",
            "generate.max_tokens": 40,
            "curate.filters": list(_FILTERS),
            "curate.encoder": "hashing",
            # Low thresholds, so that each filter drops some of the few records.
            "curate.decontamination.jaccard_threshold": 0.4,
            "curate.semantic.threshold": 0.85,
            "mix.policy": "fixed-fraction",
            "mix.human_fraction": 0.4,
            "mix.num_records": 50,
            "train.backend": "ngram",
            "train.order": 5,
            "evaluate.num_samples": 30,
            "evaluate.showcase_prompt": "The old",
            "evaluate.eval_sets": ["exam"],
        },
    ),
    Case(
        name="points",
        dataset="points",
        recipe={
            "num_generations": 3,
            "prompts.template_name": "unconditional",
            "prompts.prompts_per_human_record": 0.5,
            "curate.filters": [],
            "mix.policy": "accumulate-subsample",
            "train.backend": "gaussian-mixture",
            "evaluate.encoder": "numbers",
            "evaluate.showcase_prompt": "",
            "evaluate.num_samples": 60,
            "gate.limits": [],
        },
    ),
    Case(name="transformer", dataset="letters", recipe=_TRANSFORMER),
)
VLLM_CASE = Case(
    name="vllm", dataset="letters", recipe=_TRANSFORMER | {"generate.sampler": "vllm", "num_generations": 1}
)

# Present name -> older name. Keys that are not listed have the same name in both.
RECIPE_KEYS = {
    "dataset": "human",
    "num_generations": "generations",
    "prompts.template_name": "prompts.program",
    "prompts.prefix_words": "prompts.opening_words",
    "prompts.completions_per_prompt": "prompts.answers",
    "prompts.prompts_per_human_record": "prompts.candidates_per_human_record",
    "prompts.topic_steering.num_topics": "prompts.steer.topics",
    "prompts.topic_steering.encoder": "prompts.steer.encoder",
    "curate.filters": "curate.stages",
    "curate.decontamination.jaccard_threshold": "curate.overlap_threshold",
    "curate.decontamination.ngram_length": "curate.shared_words",
    "mix.num_records": "mix.records",
    "train.init_from": "train.start",
    "train.max_steps": "train.steps",
    "train.generation_0_max_steps": "train.human_only_steps",
    "train.human_ratio_schedule": "train.human_schedule",
    "train.hidden_size": "train.hidden",
    "train.num_hidden_layers": "train.layers",
    "train.num_attention_heads": "train.heads",
    "train.context_length": "train.context",
    "train.vocab_size": "train.vocabulary",
    "train.batch_size": "train.batch",
    "evaluate.num_samples": "measure.voice_records",
    "evaluate.showcase_prompt": "measure.prompt",
    "evaluate.embedding_sample_records": "measure.sample_records",
    "evaluate.encoder": "measure.encoder",
    "evaluate.eval_sets": "measure.evaluation",
}
_FILTER_NAMES = {
    "human_overlap": "copying",
    "decontamination": "contamination",
    "perplexity": "surprise",
    "importance_resampling": "importance",
}
RECIPE_VALUES = {
    "prompts.template_name": {"unconditional": "blank", "prefix": "opening"},
    "curate.filters": _FILTER_NAMES,
}
COMMANDS = {"run": "evolve", "add-eval-set": "withhold"}
OPTIONS = {"--dataset": "--human"}
INGEST_KEYS = {"dedup.method": "repeats"}

FOLDERS = {
    "human_train": ("reserve",),
    "human_heldout": ("heldout",),
    "excluded_records": ("kept_out",),
    "contamination_report": ("contamination",),
    "eval_samples": ("voice",),
    "gate_results": ("verdicts", "gate_result", "verdict"),
}
COLUMNS = {
    "source_generation": "born",
    "text_hash": "digest",
    "filter": "stage",
    "duplicate_of": "keeper",
    "duplicate_of_generation": "keeper_generation",
    "score": "evidence",
    "estimated_jaccard": "estimate",
    "prompt_id": "asking",
    "sum_logprob": "log_probability",
    "synthetic_count": "said",
    "human_count": "human",
    "prompt_share": "share",
    "human_ids": "members",
    "model_generation": "by",
    "nll": "nats",
    "eval_set": "withheld",
    "num_compared": "compared",
    "num_overlapping": "overlapping",
    "max_jaccard": "similarity",
    "shared_run_words": "shared_words",
    "first_generation": "since",
}
METRICS = {
    "vocabulary_size": "types",
    "perplexity_at_best_temperature": "recalibrated_perplexity",
    "bits_per_byte_at_best_temperature": "recalibrated_bits_per_byte",
    "vocabulary_retained": "words_kept",
    "memorization_rate": "copied_share",
    "unigram_js_divergence": "unigram_divergence",
    "bigram_js_divergence": "bigram_divergence",
    **{f"gen0_perplexity_q{at}": f"surprise_q{at}" for at in ("01", "05", "25", "50", "75", "95", "99")},
    **{f"hapax_{unit}_coverage": f"once_{unit}_coverage" for unit in ("word", "bigram", "trigram")},
}
_SUBJECTS = {"human_train": "reserve", "human_heldout": "heldout"}
_VALUES: dict[str, Mapping[str, str]] = {
    "filter": _FILTER_NAMES,
    "metric": METRICS,
    "subject": _SUBJECTS,
    "eval_set": _SUBJECTS,
}
"""Columns whose values were renamed too: present value -> older value."""

MODEL_FILES = ("*.safetensors", "ngram.json", "mixture.json", "tokenizer.json")


@dataclass(frozen=True)
class Table:
    """The compared columns of one artifact; rows are matched by `key`, by their position where it is empty."""

    name: str
    values: tuple[str, ...]
    key: tuple[str, ...] = ()


_SNAPSHOT_TABLES = tuple(
    Table(name, ("id", "text", "source", "source_generation", "text_hash")) for name in ("human_train", "human_heldout")
)
_EVAL_SET_TABLES = (Table("records", ("id", "text")),)
TABLES = (
    Table("excluded_records", ("kept", "duplicate_of", "score"), key=("id", "filter")),
    Table("topics", ("words", "human_count", "synthetic_count", "prompt_share", "human_ids"), key=("topic",)),
    Table(
        "candidates",
        (
            *("id", "text", "origin", "source_generation", "parents", "source", "text_hash", "prompt", "prompt_id"),
            *("seed", "finish_reason", "prompt_tokens", "completion_tokens", "sum_logprob"),
        ),
    ),
    Table(
        "decisions",
        ("kept", "duplicate_of", "duplicate_of_generation", "score", "estimated_jaccard"),
        key=("id", "filter"),
    ),
    Table("embeddings", ("vector",), key=("id",)),
    Table("corpus", ("id", "text", "origin", "source_generation", "source", "text_hash", "weight")),
    Table(
        "contamination_report",
        ("num_compared", "num_overlapping", "max_jaccard", "id", "duplicate_of", "shared_run_words"),
        key=("eval_set", "origin"),
    ),
    Table("model", ("loss", "learning_rate", "heldout_loss"), key=("step",)),
    Table("eval_samples", ("prompt", "text", "seed")),
    Table("scores", ("tokens", "nll"), key=("subject", "id", "model_generation")),
    Table("metrics", ("value", "low", "high", "sample_size"), key=("subject", "source", "metric")),
    Table("gate_results", ("action", "value", "limit", "low", "high", "first_generation"), key=("subject", "metric")),
    Table("forecast", ("value", "low", "high"), key=("metric",)),
)
"""Artifacts of an attempt; one that neither side has is skipped. `model` is the training log beside the weights."""


@dataclass
class Comparison:
    """Counts of one case, and the first rows that differ."""

    rows: int = 0
    unlike: int = 0
    files: int = 0
    files_unlike: int = 0
    filters: int = 0
    active_filters: set[str] = field(default_factory=set)
    """Filters that dropped at least one record: what the comparison has exercised."""
    examples: list[str] = field(default_factory=list)


def measure() -> list[Figure]:
    """Run every case by the checkout that `HEIRLOOM_BEFORE` names and by this one, and count what differs.

    Raises:
        ValueError: the variable is not set, or a side cannot be run or read.
    """
    if not (before := os.environ.get(BEFORE)):
        raise ValueError(f"`{BEFORE}` is not set. Set it to an older checkout, or to a folder of its results.")
    cases = (*CASES, VLLM_CASE) if os.environ.get(WITH_VLLM) else CASES
    figures: list[Figure] = []
    for case, found in compare(Path(before), _ROOT, cases).items():
        print(*found.examples, sep="\n", end="\n" * bool(found.examples))
        figures += _figures(case, found)
    return figures


def compare(before: Path, after: Path, cases: Sequence[Case], seeds: tuple[int, int] = (0, 0)) -> dict[str, Comparison]:
    """Run `cases` on both sides and compare what is stored; results by name of the case.

    Args:
        before: a checkout, or a folder of results.
        after: likewise.
        cases: what to run.
        seeds: recipe seed of either side; different seeds show that the comparison finds differences.
    """
    with _PrefectServer() as server:
        old = _Side.open("before", before, seeds[0], server).results(cases)
        new = _Side.open("after", after, seeds[1], server).results(cases)
    return {case.name: _compare_case(case, old, new) for case in cases}


def _figures(case: str, found: Comparison) -> Iterator[Figure]:
    yield Figure(f"{case}: rows unlike", found.unlike, f"of {found.rows}", "0", found.unlike == 0 < found.rows)
    same_files = found.files_unlike == 0 < found.files
    yield Figure(f"{case}: model files unlike", found.files_unlike, f"of {found.files}", "0", same_files)
    if found.active_filters:
        yield Figure(f"{case}: filters that dropped records", len(found.active_filters), f"of {found.filters}")


# Running a side.


_SERVE = """
import os, sys, threading, uvicorn
# The pipe closes when the benchmark ends, also when it is killed.
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
uvicorn.run("prefect.server.api.server:create_app", factory=True, port=int(sys.argv[1]), log_level="error")
"""


class _PrefectServer:
    """One Prefect server for all commands, started when the first one needs it: each would start its own otherwise."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = str(free.getsockname()[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(60)

    @property
    def address(self) -> str:
        """The API of the server, which answers by now.

        Raises:
            ValueError: it did not answer in three minutes.
        """
        address = f"http://127.0.0.1:{self._port}/api"
        if not self._process:
            words = [sys.executable, "-c", _SERVE, self._port]
            self._process = subprocess.Popen(
                words, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
            )
            self._wait_for(f"{address}/ready")
        return address

    def _wait_for(self, address: str) -> None:
        for _ in range(360):
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(address, timeout=2).is_success:
                    return
            time.sleep(0.5)
        raise ValueError(f"The Prefect server does not answer at {address}.")


@dataclass(frozen=True)
class _Side:
    """A checkout and the folder of its results; `checkout` is None where only results are there."""

    folder: Path
    checkout: Path | None
    seed: int
    server: _PrefectServer
    commands: dict[str, bool] = field(default_factory=dict, compare=False)
    """Whether the checkout has a command, as far as it was asked."""

    @classmethod
    def open(cls, name: str, path: Path, seed: int, server: _PrefectServer) -> "_Side":
        """Open the side `before` or `after`, at `path`.

        Results of a clean checkout are kept by commit. Those of an edited one are made again.
        """
        path = path.resolve()
        if (path / "store").is_dir():
            return cls(path, None, seed, server)
        if not (path / "flows").is_dir():
            raise ValueError(f"{path} is neither a checkout nor a folder of results. Name one with `{BEFORE}`.")
        commit, edited = (_git(path, *words) for words in (("rev-parse", "--short=12", "HEAD"), ("status", "-s")))
        recipes = json.dumps([[case.name, case.dataset, case.recipe] for case in (*CASES, VLLM_CASE)])
        inputs = [path.read_bytes() for path in sorted(_write_inputs().iterdir())]
        digest = hashlib.sha256(b"".join([recipes.encode(), *inputs])).hexdigest()[:8]
        folder = _FOLDER / f"{name}-{commit}{'-edited' if edited else ''}-inputs-{digest}-seed-{seed}"
        if edited:
            shutil.rmtree(folder, ignore_errors=True)
        return cls(folder, path, seed, server)

    def results(self, cases: Sequence[Case]) -> Path:
        """The store with the runs of `cases`; commands that succeeded before are not repeated."""
        if self.checkout:
            self._check_imports()
            inputs = _write_inputs()
            datasets = {case.dataset for case in cases}
            if "letters" in datasets:
                sources = [str(inputs / "letters.jsonl"), str(inputs / "notes.jsonl")]
                self._once("ingest-letters", "ingest", *sources, "--name", "letters")
                exam = ["--dataset", "letters", "--name", "exam"]
                self._once("eval-set", "add-eval-set", str(inputs / "exam.jsonl"), *exam)
            if "points" in datasets:
                dedup = "dedup.method" if self._has_present_keys() else INGEST_KEYS["dedup.method"]
                points = [str(inputs / "points.jsonl"), "--name", "points", "--set", f"{dedup}=exact"]
                self._once("ingest-points", "ingest", *points)
            for case in cases:
                self._once(f"run-{case.name}", "run", str(self._write_recipe(case)))
        return self.folder / "store"

    def _once(self, name: str, command: str, *arguments: str) -> None:
        """Run a command unless its log shows that it succeeded before."""
        log = self.folder / f"{name}.json"
        if log.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        words = [command, *arguments]
        if command in COMMANDS and not self._has_command(command):
            words = [COMMANDS[command], *(OPTIONS.get(word, word) for word in arguments)]
        started = time.monotonic()
        print(f"{self.checkout}: heirloom {' '.join(words)}", flush=True)
        store = str(self.folder / "store")
        output = self._python("-m", "flows", *words, "--store", store, PREFECT_API_URL=self.server.address)
        log.write_text(json.dumps({"command": words, "seconds": time.monotonic() - started, "output": output}))

    def _has_command(self, command: str) -> bool:
        if command not in self.commands:
            try:
                self.commands[command] = bool(self._python("-m", "flows", command, "--help"))
            except ValueError:
                self.commands[command] = False
        return self.commands[command]

    def _has_present_keys(self) -> bool:
        """Whether recipes of the checkout use the present names, as its shipped recipe `ngram` shows."""
        assert self.checkout
        shipped = next(self.checkout.glob("flows/**/recipes/ngram.toml"))
        return "dataset" in tomllib.loads(shipped.read_text())

    def _write_recipe(self, case: Case) -> Path:
        recipe: Recipe = {"name": case.name, "dataset": case.dataset, "seed": self.seed, **case.recipe}
        if not self._has_present_keys():
            recipe = _in_older_names(recipe)
        path = self.folder / f"{case.name}.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        # Dotted keys and JSON values are TOML, as long as no value is a table.
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in recipe.items()))
        return path

    def _check_imports(self) -> None:
        """Refuse to run when another checkout, such as an installed one, would be imported instead."""
        imported = self._python("-c", "import flows, tasks, curation, storage; print(flows.__file__)").strip()
        if self.checkout not in Path(imported).resolve().parents:
            raise ValueError(f"Python imports {imported} instead of {self.checkout}. Check PYTHONPATH and .pth files.")

    def _python(self, *arguments: str, **variables: str) -> str:
        """Run Python in the checkout with `variables` in its environment; returns its standard output.

        Raises:
            ValueError: it failed; the message ends with the last lines of its output.
        """
        environment = _environment() | {"PYTHONPATH": str(self.checkout)} | variables
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.checkout,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
            raise ValueError(f"`{' '.join(arguments)}` failed in {self.checkout} with code {done.returncode}:\n{last}")
        return done.stdout


def _environment() -> dict[str, str]:
    """Variables of every process, without the Prefect and Heirloom settings of this one."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "HEIRLOOM"))}
    return kept | {
        "PREFECT_HOME": str(_FOLDER / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        # One thread: sums of floats must not depend on how many cores are free.
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "160",
        "NO_COLOR": "1",
    }


def _in_older_names(recipe: Recipe) -> Recipe:
    """A recipe with keys and values renamed for an older checkout."""

    def renamed(key: str, value: Any) -> Any:  # noqa: ANN401  (a value of TOML)
        names = RECIPE_VALUES.get(key, {})
        return [names.get(entry, entry) for entry in value] if isinstance(value, list) else names.get(value, value)

    return {
        RECIPE_KEYS.get(key, key): renamed(key, value) if key in RECIPE_VALUES else value
        for key, value in recipe.items()
    }


def _git(checkout: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=checkout, check=True, capture_output=True, text=True).stdout.strip()


# Inputs.

_NOUNS = ("river", "garden", "letter", "winter", "village", "mountain", "teacher", "candle", "orchard", "lantern")
_VERBS = ("remembers", "follows", "forgets", "carries", "answers", "repairs", "watches", "gathers")
_ADJECTIVES = ("old", "quiet", "distant", "golden", "narrow", "patient", "broken", "early", "northern", "curious")
_ODD = (
    "call 555-0173-2291 now",
    "write to anna@example.org",
    "lorem ipsum dolor",
    "... and so on ...",
    "# # # # # # #",
)
"""Fragments for the filters quality and pii to find."""


def _write_inputs() -> Path:
    """Write the input files, the same for both sides: paths may become part of a record's source."""
    folder = _FOLDER / "inputs"
    folder.mkdir(parents=True, exist_ok=True)
    letters = _texts(240, seed=1)
    # Records of the human text in the eval set give the contamination checks something to find.
    exam = [*letters[:6], *_texts(30, seed=3)]
    files = {"letters": letters[:160], "notes": letters[160:], "exam": exam, "points": _points(300)}
    for name, texts in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


def _texts(count: int, seed: int) -> list[str]:
    """Short texts of few words, of which each filter drops some once a small model recombines them."""
    rng = random.Random(seed)  # noqa: S311  (no secret)

    def sentence() -> str:
        subject, thing = (f"the {rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}" for _ in range(2))
        return f"{subject} {rng.choice(_VERBS)} {thing}.".capitalize()

    def formula() -> str:
        """A sentence above the 13 words of a shared n-gram, whose variants a model can recombine to an unseen one."""
        first, second, third = (rng.choice(_NOUNS[:5]) for _ in range(3))
        return f"In spring they crossed the {first} and then the {second} and by night the {third} slept again."

    def text() -> str:
        kind = rng.random()
        if kind < 0.05:
            return f"Good morning, {rng.choice(_ADJECTIVES)} {rng.choice(_NOUNS)}."
        if kind < 0.12:
            jour, lieu = (rng.choice(words) for words in (("l'hiver", "l'été"), ("au village", "dans la forêt")))
            return f"Pendant {jour} les enfants jouaient encore {lieu} près de la rivière en {rng.randint(1200, 1999)}."
        body = [sentence() for _ in range(rng.randint(2, 4))]
        body += [formula()] * (rng.random() < 0.3) + [rng.choice(_ODD)] * (rng.random() < 0.1)
        return f"{' '.join(body)} It was the year {rng.randint(1200, 1999)}."

    return [text() for _ in range(count)]


def _points(count: int) -> list[str]:
    """Points of two Gaussians, as text."""
    rng = random.Random(2)  # noqa: S311  (no secret)
    centers = [rng.choice((-2.0, 2.0)) for _ in range(count)]
    return [f"{rng.gauss(center, 0.5):.3f} {rng.gauss(-center, 1.0):.3f}" for center in centers]


# Comparing what both sides stored.


def _compare_case(case: Case, before: Path, after: Path) -> Comparison:
    found = Comparison(filters=len(case.recipe["curate.filters"]))
    snapshot = f"*/{case.dataset}/snapshot=*"
    for place in _places(snapshot, before, after):
        _compare_tables(place, before / place, after / place, _SNAPSHOT_TABLES, found)
    for place in _places(f"*/{case.dataset}/eval_sets/*", after):
        older = before / place.replace("/eval_sets/", "/evaluation/")
        old_folder = before / place if (before / place).exists() else older
        _compare_tables(place, old_folder, after / place, _EVAL_SET_TABLES, found)
    for place in _places(f"runs/{case.name}/generation=*/attempt=*", before, after):
        _compare_tables(place, before / place, after / place, TABLES, found)
        _compare_files(place, before / place / "model", after / place / "model", found)
    return found


def _places(pattern: str, *stores: Path) -> list[str]:
    """Folders that match in either store, relative to it, in order of their numbers."""
    matches = {str(path.relative_to(store)) for store in stores for path in store.glob(pattern)}
    return sorted(
        matches, key=lambda place: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", place)]
    )


def _compare_tables(place: str, before: Path, after: Path, tables: Sequence[Table], found: Comparison) -> None:
    for table in tables:
        old, new = _read(before, table), _read(after, table)
        keys = list(dict.fromkeys([*old, *new]))
        unlike = [key for key in keys if not _same(old.get(key), new.get(key))]
        found.rows += len(keys)
        found.unlike += len(unlike)
        for key in unlike[:_SHOWN]:
            found.examples.append(f"{place}/{table.name} {key}: {_difference(table, old.get(key), new.get(key))}")
        if len(unlike) > _SHOWN:
            found.examples.append(f"{place}/{table.name}: {len(unlike)} of {len(keys)} rows unlike")
        if table.name == "decisions":
            found.active_filters |= {str(key[1]) for key, values in new.items() if values[0] is False}


def _compare_files(place: str, before: Path, after: Path, found: Comparison) -> None:
    """Compare model files by name and digest."""
    old, new = (
        {path.name: _digest(path) for pattern in MODEL_FILES for path in folder.glob(pattern)}
        for folder in (before, after)
    )
    unlike = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    found.files += len(old.keys() | new.keys())
    found.files_unlike += len(unlike)
    found.examples += [f"{place}/model/{name}: unlike" for name in unlike]
    if not old:
        found.files_unlike += 1
        found.examples.append(f"{place}/model: no model file, expected one of {', '.join(MODEL_FILES)}")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(folder: Path, table: Table) -> Rows:
    """The compared columns of an artifact by present names; nothing where the artifact is absent or has no table."""
    names = (table.name, *FOLDERS.get(table.name, ()))
    parts = [path for name in names for path in sorted((folder / name).glob("*.parquet"))]
    if not parts:
        return {}
    stored = pa.concat_tables([pq.ParquetFile(path).read() for path in parts])
    keys = list(zip(*(_column(stored, name, folder) for name in table.key), strict=True)) if table.key else None
    values = list(zip(*(_column(stored, name, folder) for name in table.values), strict=True))
    rows = dict(zip(keys, values, strict=True)) if keys is not None else {(at,): row for at, row in enumerate(values)}
    if len(rows) < stored.num_rows:
        raise ValueError(f"{table.key} does not identify a row of {folder / table.name}. Add a column to its key.")
    return rows


def _column(stored: pa.Table, name: str, folder: Path) -> list[Any]:
    """Values of a column under its present or its older name; renamed values by their present names."""
    older = COLUMNS.get(name, name)
    present = name if name in stored.column_names else older
    if present not in stored.column_names:
        raise ValueError(f"{folder} has no column `{name}` or `{older}`, only {', '.join(stored.column_names)}.")
    values: list[Any] = stored[present].to_pylist()
    names = {old: new for new, old in _VALUES.get(name, {}).items()}
    return [names.get(value, value) for value in values] if names else values


def _same(old: Any, new: Any) -> bool:  # noqa: ANN401  (values of any column)
    """Equality by value; NaN equals NaN."""
    if isinstance(old, tuple | list) and isinstance(new, tuple | list):
        return len(old) == len(new) and all(map(_same, old, new))
    both_nan = isinstance(old, float) and isinstance(new, float) and old != old and new != new  # noqa: PLR0124
    return both_nan or bool(old == new)


def _difference(table: Table, old: tuple[Any, ...] | None, new: tuple[Any, ...] | None) -> str:
    if old is None or new is None:
        return f"only {'after' if old is None else 'before'}"
    pairs = zip(table.values, old, new, strict=True)
    return ", ".join(f"{name} {was!r} -> {now!r}" for name, was, now in pairs if not _same(was, now))


def main() -> None:
    """Compare from the command line, printing differences instead of writing a result file."""
    by_name = {case.name: case for case in (*CASES, VLLM_CASE)}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.same_results", description=main.__doc__)
    parser.add_argument("--before", type=Path, required=True, help="older checkout, or folder of its results")
    parser.add_argument("--after", type=Path, default=_ROOT, help="newer checkout; default: this one")
    parser.add_argument(
        "--case", action="append", choices=by_name, help="case to compare; may be repeated; default: all"
    )
    parser.add_argument("--after-seed", type=int, default=0, help="another seed for --after, to see differences found")
    given = parser.parse_args()
    chosen = [by_name[name] for name in given.case] if given.case else list(CASES)
    try:
        compared = compare(given.before, given.after, chosen, (0, given.after_seed))
    except ValueError as error:
        parser.error(str(error))
    figures = [figure for name, found in compared.items() for figure in _figures(name, found)]
    print(*(line for found in compared.values() for line in found.examples), sep="\n")
    for figure in figures:
        print(f"{figure.name:<40} {figure.value} {figure.unit}  {'MISSED' if figure.holds is False else ''}")
    sys.exit(any(figure.holds is False for figure in figures))


if __name__ == "__main__":
    main()
