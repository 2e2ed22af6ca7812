"""A model's candidates: prompts in, parts of finished texts out, each text from a seed of its own.

An interrupted generation goes on behind its last whole part; stored texts are never made again.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.programs import Cell
from curation.prompts import Asking, PromptSettings, plan_prompts
from storage.artifact import Artifact, Draft, read_table
from storage.records import CANDIDATES, SYNTHETIC, seed_of, synthetic_id, text_digest
from storage.run import Attempt
from storage.survivors import read_survivors, without_dropped
from storage.weights import require_weights
from tasks.backends import Completion, Prompt, Sampling
from tasks.backends.pool import Backends
from tasks.coat import verb
from tasks.progress import logger, stage

PART = 1024
"""Candidates in a part: what a kill can cost."""

_WHOLE = ("stop", "length")


@verb
def generate(
    attempt: Attempt,
    model: Artifact,
    reserve: Artifact,
    prompts: PromptSettings,
    sampling: Sampling,
    seed: int,
    backends: Backends,
    kept_out: Artifact | None = None,
    pool: Sequence[tuple[Artifact, Artifact]] = (),
) -> Artifact:
    """Publish the candidates of this attempt; records of the reserve that `kept_out` names are not prompted from.

    `pool` holds candidates and decisions of every generation so far, oldest first: what prompts can build on.

    Raises:
        ValueError: more openings are asked for than the reserve has, or fewer candidates came back than were asked.
    """
    settings = {
        "prompts": prompts.model_dump(mode="json"),
        "sampling": sampling.model_dump(mode="json"),
        "seed": seed,
        "part": PART,
    }
    # What a teacher says does not depend on the model whose place it takes.
    parents = {"reserve": reserve} if sampling.teacher else {"model": model, "reserve": reserve}
    parents |= {"kept_out": kept_out} if kept_out else {}
    if prompts.builds_on_survivors:
        parents |= {f"decisions_{place}": decided for place, (_, decided) in enumerate(pool)}
    candidates = attempt.artifact("candidates", settings, **parents)
    if candidates.finished():
        return candidates
    require_weights(model.folder)
    human = read_table(reserve.folder, ["id", "text", "source"])
    human = without_dropped(human, kept_out.folder) if kept_out else human
    dice = seed_of(seed, "prompts", attempt.generation, attempt.number)
    earlier, delivered = _survived(prompts, pool)
    texts, sources = human["text"].to_pylist(), human["source"].to_pylist()
    asked = plan_prompts(prompts, texts, dice, sources, earlier["text"].to_pylist(), delivered)
    seeds = [seed_of(seed, "candidate", attempt.generation, attempt.number, serial) for serial in range(len(asked))]
    with candidates.draft() as draft, stage(attempt, "generate") as told:
        done = draft.parts() * PART
        waiting = [Prompt(asking.text, dice) for asking, dice in zip(asked[done:], seeds[done:], strict=True)]
        answers = backends.sampler(sampling).sample(
            model.whole(), waiting, lambda some, _: told(done + some, len(asked))
        )
        for start in range(done, len(asked), PART):
            part = list(islice(answers, PART))
            if len(part) < min(PART, len(asked) - start):
                raise ValueError(
                    f"{attempt}: {len(asked)} candidates were asked for, {start + len(part)} came back; run again to go on"
                )
            draft.write_part(
                _table(attempt, model, prompts, sampling, asked, seeds, start, part, human, earlier), start // PART
            )
        # A sampler that is left before its end takes its process with it.
        next(answers, None)
        draft.facts = {**_counted(draft, sampling), "resumed_after": done}
    if marked := {reason: count for reason, count in draft.facts["finish_reasons"].items() if reason not in _WHOLE}:
        logger.warning("%s · texts that break the schema or were ended by the server: %s", attempt, marked)
    return candidates


def _survived(prompts: PromptSettings, pool: Sequence[tuple[Artifact, Artifact]]) -> tuple[pa.Table, Counter[Cell]]:
    """Survivors of the last generation, and how many there are of all generations in each cell of the grid."""
    nobody = pa.schema([CANDIDATES.field(name) for name in ("id", "text", "source", "attributes")]).empty_table()
    if not prompts.builds_on_survivors:
        return nobody, Counter()
    tables = [read_survivors(made.folder, decided.folder).select(nobody.column_names) for made, decided in pool]
    cells = (prompts.cell(dict(pairs)) for table in tables for pairs in table["attributes"].to_pylist())
    return (tables or [nobody])[-1], Counter(cells)


def _counted(draft: Draft, sampling: Sampling) -> dict[str, Any]:
    names = ("completion_tokens", "finish_reason", "model")
    table = draft.read(pa.schema([CANDIDATES.field(name) for name in names]))
    ends = Counter(table["finish_reason"].to_pylist())
    facts = {"generated_tokens": pc.sum(table["completion_tokens"]).as_py() or 0, "finish_reasons": dict(ends)}
    return facts | ({"teachers": dict(Counter(table["model"].to_pylist()))} if sampling.teacher else {})


def _table(
    attempt: Attempt,
    model: Artifact,
    prompts: PromptSettings,
    sampling: Sampling,
    asked: Sequence[Asking],
    seeds: Sequence[int],
    start: int,
    answers: Sequence[Completion],
    human: pa.Table,
    earlier: pa.Table,
) -> pa.Table:
    parameters = sampling.model_dump(include=set(CANDIDATES.field("parameters").type.names))

    def rows() -> Iterator[dict[str, object]]:
        for serial, answer in enumerate(answers, start):
            asking = asked[serial]
            text = asking.text + answer.text if prompts.continues else answer.text.strip()
            parents = [
                table.slice(row, 1) for table, row in ((human, asking.parent), (earlier, asking.earlier)) if row >= 0
            ]
            yield {
                "id": synthetic_id(attempt.generation, attempt.number, serial),
                "text": text,
                "origin": SYNTHETIC,
                "born": attempt.generation,
                "parents": [parent["id"][0].as_py() for parent in parents],
                "source": parents[0]["source"][0].as_py() if parents else "",
                "digest": text_digest(text),
                "prompt": asking.text,
                "program": prompts.program,
                "attributes": list(asking.attributes.items()),
                "parameters": parameters,
                "model": answer.teacher or model.fingerprint,
                "seed": seeds[serial],
                "finish_reason": answer.finish_reason,
                "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.completion_tokens,
                "log_probability": answer.log_probability,
            }

    return pa.Table.from_pylist(list(rows()), schema=CANDIDATES)
