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
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Artifact, Draft, read_table
from storage.artifacts.ids import derive_seed, synthetic_id, text_hash
from storage.artifacts.model_files import ensure_loadable, require_weights
from storage.artifacts.schemas import CANDIDATES, SYNTHETIC
from storage.artifacts.survivors import without_dropped
from storage.runs.run import Attempt
from tasks.backends import Completion, Prompt, Sampling
from tasks.backends.registry import Backends
from tasks.generation.prompt_plan import (
    CandidateHistory,
    PromptPlan,
    as_table,
    build_prompt_plan,
    read_topics,
    topic_coverage,
)
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import logger, progress

PART = 1024
"""Candidates in a part: what a kill can cost."""

_WHOLE = ("stop", "length")


@task
def generate(
    attempt: Attempt,
    model: Artifact,
    human_train: Artifact,
    prompts: PromptSettings,
    sampling: Sampling,
    seed: int,
    backends: Backends,
    excluded: Artifact | None = None,
    history: CandidateHistory = (),
) -> Artifact:
    """Publish the candidates of this attempt; records of the reserve that `excluded_records` names are not prompted from.

    `pool` holds candidates and decisions of every generation so far, oldest first: what prompts can build on.

    Raises:
        HeirloomError: more openings are asked for than the reserve has, or fewer candidates came back than were asked.
    """
    settings = {
        "prompts": prompts.model_dump(mode="json"),
        "sampling": sampling.model_dump(mode="json"),
        "seed": seed,
        "part": PART,
    }
    # What teachers say does not depend on the model whose place they take.
    parents = (
        {"model": model, "human_train": human_train} if "" in sampling.model_names else {"human_train": human_train}
    )
    parents |= {"excluded_records": excluded} if excluded else {}
    if prompts.needs_survivors or sampling.teacher_routing == "routed":
        parents |= {f"decisions_{place}": decided for place, (_, decided) in enumerate(history)}
    human = read_table(human_train.folder, ["id", "text", "source"])
    human = without_dropped(human, excluded.folder) if excluded else human
    tail = _steered(attempt, prompts, human, parents, history) if prompts.topic_steering.num_topics else None
    parents |= {"topics": tail} if tail else {}
    candidates = attempt.artifact("candidates", settings, **parents)
    if candidates.exists():
        return candidates
    require_weights(model.folder)
    topics = read_topics(tail, human) if tail else None
    planned = build_prompt_plan(prompts, sampling, human, history, topics, (seed, attempt.generation, attempt.number))
    count = len(planned.assignments)
    seeds = [derive_seed(seed, "candidate", attempt.generation, attempt.number, serial) for serial in range(count)]
    with candidates.draft() as draft, progress(attempt, "generate") as told:
        done = draft.num_parts() * PART
        speed = _Throughput(done, count, told)
        with closing(_said(planned, seeds, done, model, sampling, backends, speed)) as answers:
            for start in range(done, count, PART):
                part = list(islice(answers, PART))
                if len(part) < min(PART, count - start):
                    raise HeirloomError(
                        f"{attempt}: {count} candidates were asked for, {start + len(part)} came back; run again to go on"
                    )
                draft.write_part(_table(attempt, model, prompts, sampling, planned, seeds, start, part), start // PART)
            # A sampler that is left before its end takes its process with it.
            next(answers, None)
        draft.facts = {**_counted(draft, sampling), "resumed_after": done}
    if marked := {reason: count for reason, count in draft.facts["finish_reasons"].items() if reason not in _WHOLE}:
        logger.warning("%s · texts that break the schema or were ended by the server: %s", attempt, marked)
    return candidates


class _Throughput:
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
    planned: PromptPlan,
    seeds: Sequence[int],
    done: int,
    model: Artifact,
    sampling: Sampling,
    backends: Backends,
    speed: _Throughput,
) -> Generator[Completion]:
    """The candidates after the first `done`, in their order: one teacher after another."""
    for name, group in groupby(
        range(done, len(planned.assignments)), key=lambda serial: planned.assignments[serial][1]
    ):
        serials = list(group)
        speed.base = serials[0]
        waiting = [Prompt(planned.specs[planned.assignments[serial][0]].text, seeds[serial]) for serial in serials]
        for answer in backends.sampler(sampling.for_teacher(name)).sample(ensure_loadable(model), waiting, speed):
            speed.tokens += answer.completion_tokens
            yield answer


def _steered(
    attempt: Attempt, prompts: PromptSettings, human: pa.Table, parents: dict[str, Artifact], pool: CandidateHistory
) -> Artifact:
    """Publish the tail report of the generation before, which says what this one is asked about."""
    before = {name: parent for name, parent in parents.items() if name != "model"}
    tail = attempt.artifact("topics", prompts.topic_steering.model_dump(mode="json"), **before)
    if not tail.exists():
        with tail.draft() as draft, progress(attempt, "topic_coverage"):
            draft.write_part(as_table(topic_coverage(prompts.topic_steering, human, pool), human))
    return tail


def _counted(draft: Draft, sampling: Sampling) -> dict[str, Any]:
    names = ("completion_tokens", "finish_reason", "model_fingerprint")
    table = draft.read(pa.schema([CANDIDATES.field(name) for name in names]))
    ends = Counter(table["finish_reason"].to_pylist())
    facts = {"generated_tokens": pc.sum(table["completion_tokens"]).as_py() or 0, "finish_reasons": dict(ends)}
    return facts | (
        {"teachers": dict(Counter(table["model_fingerprint"].to_pylist()))} if any(sampling.model_names) else {}
    )


def _table(
    attempt: Attempt,
    model: Artifact,
    prompts: PromptSettings,
    sampling: Sampling,
    planned: PromptPlan,
    seeds: Sequence[int],
    start: int,
    answers: Sequence[Completion],
) -> pa.Table:
    parameters = sampling.model_dump(include=set(CANDIDATES.field("parameters").type.names))

    def rows() -> Iterator[dict[str, object]]:
        for serial, answer in enumerate(answers, start):
            number, teacher = planned.assignments[serial]
            asking = planned.specs[number]
            text = prompts.to_record(asking.text, answer.text)
            origins = (planned.human_rows, asking.human_row), (planned.survivor_rows, asking.survivor_row)
            parents = [table.slice(row, 1) for table, row in origins if row >= 0]
            yield {
                "id": synthetic_id(attempt.generation, attempt.number, serial),
                "text": text,
                "origin": SYNTHETIC,
                "source_generation": attempt.generation,
                "parents": [parent["id"][0].as_py() for parent in parents],
                "source": parents[0]["source"][0].as_py() if parents else "",
                "text_hash": text_hash(text),
                "prompt": asking.text,
                "prompt_template": prompts.template_name,
                "attributes": list(asking.attributes.items()),
                "parameters": parameters,
                "model_fingerprint": answer.teacher or model.fingerprint,
                "teacher": teacher or None,
                "prompt_id": number,
                "seed": seeds[serial],
                "finish_reason": answer.finish_reason,
                "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.completion_tokens,
                "sum_logprob": answer.sum_logprob,
            }

    return pa.Table.from_pylist(list(rows()), schema=CANDIDATES)
