"""A model's candidates: prompts in, parts of finished texts out, each text from a seed of its own.

An interrupted generation goes on behind its last whole part; stored texts are never made again.
"""

import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from itertools import groupby, islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.prompts.plan import PromptSettings
from storage.artifacts.artifact import Artifact, Draft, read_table
from storage.artifacts.ids import seed_of, synthetic_id, text_digest
from storage.artifacts.model_files import require_weights, speakable
from storage.artifacts.schemas import CANDIDATES, SYNTHETIC
from storage.artifacts.survivors import without_dropped
from storage.runs.run import Attempt
from tasks.backends import Completion, Prompt, Sampling
from tasks.backends.registry import Backends
from tasks.generation.prompt_plan import Planned, Pool, as_table, plan, read_topics, tail_report
from tasks.orchestration.prefect import verb
from tasks.orchestration.progress import logger, stage

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
    pool: Pool = (),
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
    # What teachers say does not depend on the model whose place they take.
    parents = {"model": model, "reserve": reserve} if "" in sampling.speakers else {"reserve": reserve}
    parents |= {"kept_out": kept_out} if kept_out else {}
    if prompts.builds_on_survivors or sampling.arbitrage == "routed":
        parents |= {f"decisions_{place}": decided for place, (_, decided) in enumerate(pool)}
    human = read_table(reserve.folder, ["id", "text", "source"])
    human = without_dropped(human, kept_out.folder) if kept_out else human
    tail = _steered(attempt, prompts, human, parents, pool) if prompts.steer.topics else None
    parents |= {"topics": tail} if tail else {}
    candidates = attempt.artifact("candidates", settings, **parents)
    if candidates.finished():
        return candidates
    require_weights(model.folder)
    topics = read_topics(tail, human) if tail else None
    planned = plan(prompts, sampling, human, pool, topics, (seed, attempt.generation, attempt.number))
    count = len(planned.turns)
    seeds = [seed_of(seed, "candidate", attempt.generation, attempt.number, serial) for serial in range(count)]
    with candidates.draft() as draft, stage(attempt, "generate") as told:
        done = draft.parts() * PART
        speed = _Speed(done, count, told)
        with closing(_said(planned, seeds, done, model, sampling, backends, speed)) as answers:
            for start in range(done, count, PART):
                part = list(islice(answers, PART))
                if len(part) < min(PART, count - start):
                    raise ValueError(
                        f"{attempt}: {count} candidates were asked for, {start + len(part)} came back; run again to go on"
                    )
                draft.write_part(_table(attempt, model, prompts, sampling, planned, seeds, start, part), start // PART)
            # A sampler that is left before its end takes its process with it.
            next(answers, None)
        draft.facts = {**_counted(draft, sampling), "resumed_after": done}
    if marked := {reason: count for reason, count in draft.facts["finish_reasons"].items() if reason not in _WHOLE}:
        logger.warning("%s · texts that break the schema or were ended by the server: %s", attempt, marked)
    return candidates


class _Speed:
    """How far the candidates are, and how many tokens a second come back."""

    def __init__(self, done: int, count: int, told: Any) -> None:  # noqa: ANN401  (the teller of a stage)
        self._count, self._told, self._started = count, told, time.monotonic()
        self._before = self.base = done
        self.tokens = 0

    def __call__(self, some: int, _: int) -> None:
        rate = self.tokens / max(1e-9, time.monotonic() - self._started)
        done = self.base + some
        self._told(done, self._count, f"{done:,} of {self._count:,}, {rate:,.0f} tokens a second", self._before)


def _said(
    planned: Planned,
    seeds: Sequence[int],
    done: int,
    model: Artifact,
    sampling: Sampling,
    backends: Backends,
    speed: _Speed,
) -> Generator[Completion]:
    """The candidates after the first `done`, in their order: one teacher after another."""
    for name, group in groupby(range(done, len(planned.turns)), key=lambda serial: planned.turns[serial][1]):
        serials = list(group)
        speed.base = serials[0]
        waiting = [Prompt(planned.asked[planned.turns[serial][0]].text, seeds[serial]) for serial in serials]
        for answer in backends.sampler(sampling.by(name)).sample(speakable(model), waiting, speed):
            speed.tokens += answer.completion_tokens
            yield answer


def _steered(
    attempt: Attempt, prompts: PromptSettings, human: pa.Table, parents: dict[str, Artifact], pool: Pool
) -> Artifact:
    """Publish the tail report of the generation before, which says what this one is asked about."""
    before = {name: parent for name, parent in parents.items() if name != "model"}
    tail = attempt.artifact("topics", prompts.steer.model_dump(mode="json"), **before)
    if not tail.finished():
        with tail.draft() as draft, stage(attempt, "steer"):
            draft.write_part(as_table(tail_report(prompts.steer, human, pool), human))
    return tail


def _counted(draft: Draft, sampling: Sampling) -> dict[str, Any]:
    names = ("completion_tokens", "finish_reason", "model")
    table = draft.read(pa.schema([CANDIDATES.field(name) for name in names]))
    ends = Counter(table["finish_reason"].to_pylist())
    facts = {"generated_tokens": pc.sum(table["completion_tokens"]).as_py() or 0, "finish_reasons": dict(ends)}
    return facts | ({"teachers": dict(Counter(table["model"].to_pylist()))} if any(sampling.speakers) else {})


def _table(
    attempt: Attempt,
    model: Artifact,
    prompts: PromptSettings,
    sampling: Sampling,
    planned: Planned,
    seeds: Sequence[int],
    start: int,
    answers: Sequence[Completion],
) -> pa.Table:
    parameters = sampling.model_dump(include=set(CANDIDATES.field("parameters").type.names))

    def rows() -> Iterator[dict[str, object]]:
        for serial, answer in enumerate(answers, start):
            number, teacher = planned.turns[serial]
            asking = planned.asked[number]
            text = prompts.record(asking.text, answer.text)
            origins = (planned.human, asking.parent), (planned.earlier, asking.earlier)
            parents = [table.slice(row, 1) for table, row in origins if row >= 0]
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
                "teacher": teacher or None,
                "asking": number,
                "seed": seeds[serial],
                "finish_reason": answer.finish_reason,
                "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.completion_tokens,
                "log_probability": answer.log_probability,
            }

    return pa.Table.from_pylist(list(rows()), schema=CANDIDATES)
