"""The sieves on one generation's candidates: one stored decision for every record and sieve that looked at it."""

from collections.abc import Sequence
from dataclasses import asdict

import pyarrow as pa

from curation.embedding import open_encoder
from curation.stages import CurateSettings, Known, decide
from storage.artifact import Artifact, read_table
from storage.records import DECISIONS
from storage.run import Attempt
from storage.survivors import read_survivors
from tasks.coat import verb
from tasks.progress import stage


@verb
def curate(
    attempt: Attempt,
    candidates: Artifact,
    reserve: Artifact,
    heldout: Artifact,
    earlier: Sequence[tuple[Artifact, Artifact]],
    settings: CurateSettings,
) -> Artifact:
    """Publish the decisions; `earlier` are the candidates and decisions of the generations before."""
    parents = {f"decisions_{place}": decided for place, (_, decided) in enumerate(earlier)}
    decisions = attempt.artifact(
        "decisions",
        settings.model_dump(mode="json"),
        candidates=candidates,
        reserve=reserve,
        heldout=heldout,
        **parents,
    )
    if decisions.finished():
        return decisions
    with decisions.draft() as draft, stage(attempt, "curate") as told:
        sieves: list[str] = list(settings.stages)
        made = decide(
            _known(read_table(candidates.folder, ["id", "text", "born"])),
            _known(read_table(heldout.folder, ["id", "text", "born"])),
            _known(read_table(reserve.folder, ["id", "text", "born"])),
            _survivors(earlier),
            settings,
            lambda: open_encoder(settings.encoder),
            lambda sieve, _: told(sieves.index(sieve), len(sieves)),
        )
        draft.write_part(pa.Table.from_pylist([asdict(decision) for decision in made], schema=DECISIONS))
        dropped = sum(not decision.kept for decision in made)
        asked = read_table(candidates.folder, ["id"]).num_rows
        draft.facts = {"survivors": asked - dropped, "dropped": dropped}
    return decisions


def _survivors(earlier: Sequence[tuple[Artifact, Artifact]]) -> Known:
    tables = [read_survivors(made.folder, decided.folder).select(["id", "text", "born"]) for made, decided in earlier]
    return _known(pa.concat_tables(tables)) if tables else Known((), (), ())


def _known(table: pa.Table) -> Known:
    return Known(table["id"].to_pylist(), table["text"].to_pylist(), table["born"].to_pylist())
