"""Run one job in its own process and environment: `python -m benchmarks.performance.semantic_peers JOB INPUT OUTPUT`.

Saves its result as an array and prints its CPU seconds, without imports and loading.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

SEMANTIC_THRESHOLD = 0.9
KEPT = 0.1

Job = Callable[[], Any]


def _embed(path: str, file: Path) -> Job:
    from curation.embeddings.base import EmbeddingSettings
    from curation.embeddings.encoders import load_encoder

    texts = json.loads(file.read_text())
    if path == "default":
        from sentence_transformers import SentenceTransformer

        from curation.embeddings.encoders import bundled_minilm_path

        model = SentenceTransformer(str(bundled_minilm_path()), device="cpu")
        model.encode(texts[:16])
        return lambda: model.encode(texts, normalize_embeddings=True)
    backend, precision = path.split("-")
    encoder = load_encoder("minilm", EmbeddingSettings.model_validate({"backend": backend, "precision": precision}))
    encoder.encode(texts[:16])
    return lambda: encoder.encode(texts)


def _semhash(file: Path) -> Job:
    from semhash import SemHash

    vectors = np.load(file)
    names = [str(row) for row in range(len(vectors))]

    def run() -> Any:  # noqa: ANN401
        index = SemHash.from_embeddings(embeddings=vectors, records=names, model=None)
        return np.array([int(name) for name in index.self_deduplicate(threshold=SEMANTIC_THRESHOLD).selected])

    return run


def _submodlib(file: Path) -> Job:
    from submodlib import FacilityLocationFunction

    vectors = np.load(file)

    def run() -> Any:  # noqa: ANN401
        similar = np.maximum(vectors @ vectors.T, 0)
        function = FacilityLocationFunction(n=len(vectors), mode="dense", sijs=similar, separate_rep=False)
        chosen = function.maximize(budget=round(KEPT * len(vectors)), optimizer="LazyGreedy", show_progress=False)
        return np.array([row for row, _ in chosen])

    return run


def _apricot(file: Path) -> Job:
    from apricot import FacilityLocationSelection

    vectors = np.load(file).astype(np.float64)
    keep = round(KEPT * len(vectors))
    return lambda: FacilityLocationSelection(keep, metric="cosine", optimizer="lazy").fit(vectors).ranking


def main() -> None:
    """Run the job named on the command line."""
    job, given, target = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    name, _, path = job.partition(":")
    run = (
        _embed(path, given)
        if name == "embed"
        else {"semhash": _semhash, "submodlib": _submodlib, "apricot": _apricot}[name](given)
    )
    started = time.process_time()
    found = run()
    seconds = time.process_time() - started
    np.save(target, np.asarray(found))
    print(f"\nseconds {seconds}")


if __name__ == "__main__":
    main()
