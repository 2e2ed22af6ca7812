"""Near-duplicate search beside other people's: CPU time, and what is lost and wrongly removed, against exact truth.

20,000 documents of 50 to 300 words, Parquet in, decisions out, every method in a process of its own, in turns; the
cheapest turn of each counts. CPU time is of the process and its children. *Leaked*: documents that stay although an
earlier one that stays is at least 0.7 like them, as a share of those with such a duplicate. *Right*: dropped documents
for which one at least 0.7 like them stays. What a new generation costs beside indexed ones is in
`benchmarks.incremental`. Rivals live in environments of their own, which this benchmark makes in its work folder.
"""

import json
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.figures import WORK, Figure, remembered, short
from benchmarks.performance import corpora, incremental
from benchmarks.performance.dedup_peers import METHODS, run
from curation.dedup.kernels.dispatch import numba_kernel, numpy_kernel
from curation.dedup.minhash import MinHashSettings, find_near_duplicates
from storage.artifacts.provenance import machine

OURS = {"Heirloom": numba_kernel, "Heirloom, numpy": numpy_kernel}
_PACKAGES = {
    "datasketch naive": ("datasketch", "datasketch==2.0.0", "xxhash==4.1.0", "pyarrow==26.0.1"),
    "datasketch bulk": ("datasketch", "datasketch==2.0.0", "xxhash==4.1.0", "pyarrow==26.0.1"),
    "rensa": ("rensa", "rensa==0.5.0", "numpy==2.3.5", "pyarrow==26.0.1"),
    "datatrove": ("datatrove", "datatrove[processing]==0.10.1", "spacy==3.8.18", "pyarrow==26.0.1"),
    "text-dedup": ("text-dedup", "text-dedup==0.4.0", "pyarrow==26.0.1"),
}
_GOALS = {"datasketch naive": 150, "datasketch bulk": 20, "rensa": 10, "datatrove": 100, "text-dedup": 100}
_SETTINGS = MinHashSettings(shingle_length=corpora.SHINGLE, threshold=corpora.THRESHOLD)
_SHARES = (0.5, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Outcome:
    """What one method did with one corpus; CPU in microseconds a document."""

    cpu: float
    docs_a_second: float
    dropped: int
    leaked: float
    right: float


def measure(documents: int = 20_000, many: int = 1_000_000, distinct: int = 1_500, turns: int = 3) -> list[Figure]:
    """Run everything, what was measured before an interruption excepted.

    Smaller numbers show that it works, and mean nothing else.
    """
    rivals = [name for name in METHODS if _environment(name)]
    pieces: dict[str, Callable[[], list[Figure]]] = {
        "beside": lambda: _beside(rivals, corpora.resampled(documents), turns),
        "alone": lambda: _alone(corpora.resampled(many)),
        "after": lambda: incremental.after(documents, is_the_stated_core(), turns),
        "ten": lambda: incremental.ten(documents, many, is_the_stated_core()),
        **{
            f"shared-{words}": partial(_leaks, rivals, words, corpora.with_templates(documents, words))
            for words in (40, 120)
        },
        **{
            f"template-{share:.0%}": partial(_losses, rivals, share, corpora.mostly_template(distinct, share))
            for share in _SHARES
        },
    }
    sizes = f"dedup/{documents}-{many}-{distinct}"
    return [figure for name, count in pieces.items() for figure in remembered(WORK / sizes, name, count)]


def _beside(rivals: Sequence[str], corpus: Path, turns: int) -> list[Figure]:
    """Ratios of CPU time in one interleaved run, and how good each answer is."""
    found: dict[str, list[Outcome]] = {name: [] for name in (*OURS, *rivals)}
    for _ in range(turns):
        for name, outcomes in found.items():
            outcomes.append(_outcome(name, corpus))
    best = {name: min(outcomes, key=lambda outcome: outcome.cpu) for name, outcomes in found.items()}
    figures = []
    for name in rivals:
        ratio, goal = best[name].cpu / best["Heirloom"].cpu, _GOALS[name]
        figures.append(Figure(f"CPU time, {name} / Heirloom", short(ratio), "times", f">= {goal}", ratio >= goal))
    if "datasketch bulk" in best:
        ratio = best["datasketch bulk"].cpu / best["Heirloom, numpy"].cpu
        figures.append(
            Figure("CPU time, datasketch bulk / Heirloom with numpy", short(ratio), "times", ">= 5", ratio >= 5)
        )
    ours = best["Heirloom"]
    figures += [
        Figure(
            "Heirloom: recall, exact truth at 0.7", short(1 - ours.leaked), "share", ">= 0.995", ours.leaked <= 0.005
        ),
        Figure("Heirloom: precision, exact truth at 0.7", short(ours.right), "share", "1", ours.right == 1),
    ]
    for name, outcome in best.items():
        figures += [
            Figure(f"{name}: CPU per document", short(outcome.cpu), "us"),
            Figure(f"{name}: recall", short(1 - outcome.leaked), "share"),
            Figure(f"{name}: precision", short(outcome.right), "share"),
        ]
    return figures


def _alone(corpus: Path) -> list[Figure]:
    outcome = _outcome("Heirloom", corpus, judged=False)
    known = is_the_stated_core()
    cpu, speed = outcome.cpu, outcome.docs_a_second
    rows = f"{pq.read_metadata(corpus).num_rows:,} documents"
    return [
        Figure(
            f"Heirloom: CPU per document, {rows}",
            short(cpu),
            "us",
            "<= 6 on Zen 5 with AVX-512 BF16",
            cpu <= 6 if known else None,
        ),
        Figure(
            f"Heirloom: {rows}",
            round(speed),
            "a second",
            ">= 250,000 on two free such cores",
            speed >= 250_000 if known else None,
        ),
    ]


def _leaks(rivals: Sequence[str], words: int, corpus: Path) -> list[Figure]:
    ours = _outcome("Heirloom", corpus)
    figures = [
        Figure(
            f"Heirloom: missed duplicates, {words} shared words",
            short(ours.leaked),
            "share",
            "<= 0.006",
            ours.leaked <= 0.006,
        ),
        Figure(f"Heirloom: correct drops, {words} shared words", short(ours.right), "share", "1", ours.right == 1),
    ]
    for name in rivals:
        if name != "datasketch naive":
            outcome = _outcome(name, corpus)
            figures.append(Figure(f"{name}: missed duplicates, {words} shared words", short(outcome.leaked), "share"))
            figures.append(Figure(f"{name}: correct drops, {words} shared words", short(outcome.right), "share"))
    return figures


def _losses(rivals: Sequence[str], share: float, corpus: Path) -> list[Figure]:
    """Distinct documents that are dropped.

    At 90 % their similarity is 0.81, and only template masking separates them.
    """
    what = f"of {pq.read_metadata(corpus).num_rows:,} distinct documents, {share:.0%} template"
    masked, open_ = (_outcome(name, corpus, judged=False) for name in ("Heirloom, masked", "Heirloom"))
    figures = [Figure(f"Heirloom, masked: removed {what}", masked.dropped, "documents", "0", masked.dropped == 0)]
    if share <= 0.8:
        figures.append(Figure(f"Heirloom: removed {what}", open_.dropped, "documents", "0", open_.dropped == 0))
    else:
        figures.append(Figure(f"Heirloom: removed {what}", open_.dropped, "documents"))
    return figures + [
        Figure(f"{name}: removed {what}", _outcome(name, corpus, judged=False).dropped, "documents")
        for name in rivals
        if name != "datasketch naive"
    ]


def _outcome(name: str, corpus: Path, *, judged: bool = True) -> Outcome:
    folder = corpora.FOLDER / "runs" / f"{corpus.stem}-{name.replace(' ', '-').replace(',', '')}"
    folder.mkdir(parents=True, exist_ok=True)
    if name in METHODS:
        command = [str(_python(name)), str(Path(__file__).parent / "dedup_peers.py")]
    else:
        command = [sys.executable, "-m", "benchmarks.performance.dedup"]
    process = subprocess.run([*command, name, str(corpus), str(folder)], check=False, capture_output=True, text=True)
    if process.returncode:
        raise RuntimeError(f"{name} failed on {corpus.name}:\n{process.stderr[-2000:]}")
    cost = json.loads(process.stdout.splitlines()[-1])
    count = pq.read_metadata(corpus).num_rows
    stays = np.ones(count, bool)
    stays[np.load(folder / "dropped.npy")] = False
    leaked, right = _judged(stays, corpus) if judged else (float("nan"), float("nan"))
    return Outcome(cost["cpu"] / count * 1e6, count / cost["wall"], int((~stays).sum()), leaked, right)


def _judged(stays: "np.ndarray[tuple[int], np.dtype[np.bool_]]", corpus: Path) -> tuple[float, float]:
    left, right = corpora.similar_pairs(corpus)
    both = stays[left] & stays[right]
    represented = np.zeros(len(stays), bool)
    represented[right[stays[left]]] = represented[left[stays[right]]] = True
    leaked = len(np.unique(right[both])) / max(1, len(np.unique(right)))
    return leaked, float(represented[~stays].mean()) if (~stays).any() else 1.0


def _environment(name: str) -> bool:
    """Whether this rival can be run here; its environment is made where it is not."""
    python, packages = _python(name), _PACKAGES[name][1:]
    if not (ready := python.parent.parent / ".ready").exists():
        venv.create(python.parent.parent, with_pip=True)
        made = subprocess.run([str(python), "-m", "pip", "install", "-qq", *packages], check=False)
        if made.returncode:
            print(f"{name} cannot be installed here, and is left out", file=sys.stderr)
            return False
        ready.touch()
    return True


def _python(name: str) -> Path:
    return WORK / "peers" / _PACKAGES[name][0] / "bin/python"


def is_the_stated_core() -> bool:
    """Whether goals of time are for this machine."""
    flags = Path("/proc/cpuinfo")
    return flags.exists() and "avx512_bf16" in flags.read_text() and "AMD" in machine()


def _ours(name: str, corpus: Path, _: Path) -> list[int]:
    settings = (
        _SETTINGS.model_copy(update={"max_shingle_document_frequency": 0.2})
        if name == "Heirloom, masked"
        else _SETTINGS
    )
    kernel = OURS.get(name, numba_kernel)()
    found = find_near_duplicates(pq.read_table(corpus)["text"], [], settings, kernel=kernel)
    dropped: list[int] = np.flatnonzero(~found.kept).tolist()
    return dropped


if __name__ == "__main__":
    chosen, corpus_path, folder_path = sys.argv[1:]
    run(lambda corpus, folder: _ours(chosen, corpus, folder), Path(corpus_path), Path(folder_path))
