"""How surprised the models are, text by text: this generation's by what is held out, generation 0's by what was said.

Stored for each record, so that two generations can be compared in pairs and a histogram drawn of any quantile.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curation.metrics.perplexity import loss_change, perplexities, surprises
from curation.metrics.settings import TEMPERATURES, MeasureSettings
from storage.artifacts.artifact import Artifact, as_made, read_table
from storage.artifacts.ids import seed_of
from storage.artifacts.model_files import speakable
from storage.artifacts.schemas import SCORES
from storage.runs.run import Attempt
from tasks.backends import Progress, Scorer
from tasks.evaluation.inputs import Made, largest_sources, rows_of, sampled


def measure_losses(
    attempt: Attempt,
    made: Made,
    sets: dict[str, Artifact],
    settings: MeasureSettings,
    seed: int,
    scorer: Scorer,
    told: Progress,
) -> tuple[list[dict[str, object]], pa.Table]:
    """Metrics of how surprised the models are, and the scores they were made from."""
    dice = seed_of(seed, "bootstrap")
    rows = []
    heldout = read_table(made.heldout.folder, ["id", "text", "source"])
    texts, ids, sources = (heldout[name].to_pylist() for name in ("text", "id", "source"))
    scored = _score(scorer, made.model, texts, told)
    rows += rows_of("model", perplexities(scored.nats, scored.tokens, scored.bytes_, dice))
    for source in largest_sources(made, settings):
        if (mine := np.array([one == source for one in sources])).any() and source not in sets:
            some = scored.only(mine, texts)
            rows += rows_of("model", perplexities(some.nats, some.tokens, some.bytes_, dice), source)
    for name, withheld in sets.items():
        some = _score(scorer, made.model, read_table(withheld.folder, ["text"])["text"].to_pylist(), told)
        rows += rows_of("model", perplexities(some.nats, some.tokens, some.bytes_, dice), name)
    tables = [_as_rows("heldout", ids, attempt.generation, scored)]
    before = _heldout_nats(made.first, ids) if made.first else scored.nats[:, 0]
    if before is not None:
        rows += rows_of("model", [loss_change(before, scored.nats[:, 0], scored.tokens, dice)])
    if made.candidates and made.first:
        said = sampled(read_table(made.candidates.folder, ["id", "text"]), settings.sample_records)
        first = as_made(made.first.folder / "model")
        found = _score(scorer, first, said["text"].to_pylist(), told, only_as_is=True)
        rows += rows_of("candidates", surprises(found.nats[:, 0], found.tokens, dice))
        tables.append(_as_rows("candidates", said["id"].to_pylist(), 0, found))
    return rows, pa.concat_tables(tables)


@dataclass(frozen=True)
class _Scored:
    """Nats of some texts, shape (texts, temperatures), their tokens, and their bytes all together."""

    nats: NDArray[np.float64]
    tokens: NDArray[np.int64]
    bytes_: int

    def only(self, rows: NDArray[np.bool_], texts: list[str]) -> "_Scored":
        """Of some of the texts."""
        kept = [text for text, row in zip(texts, rows, strict=True) if row]
        return _Scored(self.nats[rows], self.tokens[rows], _bytes(kept))


def _bytes(texts: list[str]) -> int:
    """UTF-8 bytes of some texts."""
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in texts)


def _score(scorer: Scorer, model: Artifact, texts: list[str], told: Progress, *, only_as_is: bool = False) -> _Scored:
    """Score texts under a model at every temperature, or as the model is."""
    temperatures = TEMPERATURES[:1] if only_as_is else TEMPERATURES
    scores = scorer.score(speakable(model), texts, temperatures, told) if texts else []
    nats = np.array([score.nats for score in scores], np.float64).reshape(len(scores), len(temperatures))
    return _Scored(nats, np.array([score.tokens for score in scores], np.int64), _bytes(texts))


def _as_rows(subject: str, ids: list[str], by: int, scored: _Scored) -> pa.Table:
    """A row a text, for the artifact `scores`."""
    columns = [[subject] * len(ids), ids, [by] * len(ids), scored.tokens, _numbers(scored.nats[:, 0])]
    return pa.table(columns, names=SCORES.names).cast(SCORES)


def _heldout_nats(first: Attempt, ids: list[str]) -> NDArray[np.float64] | None:
    """Nats of the held-out texts under generation 0's model, in the order of `ids`; None where they are not the same texts."""
    table = read_table(as_made(first.folder / "scores").folder)
    known = {row["id"]: row["nats"] for row in table.to_pylist() if row["subject"] == "heldout"}
    if not set(ids) <= set(known):
        return None
    return np.array([np.nan if known[one] is None else known[one] for one in ids])


def _numbers(values: NDArray[np.float64]) -> pa.Array:
    return pa.array(values, pa.float64(), from_pandas=True)  # what is no number is null
