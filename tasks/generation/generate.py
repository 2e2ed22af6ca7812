"""Generate candidates from planned prompts, each with its own seed.

Candidates are stored in parts. An interrupted generation resumes after its last complete part.
"""

import time
from collections import Counter
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, islice, takewhile

import pyarrow as pa
import pyarrow.compute as pc

from curation.prompts.plan import PromptSpec
from heirloom.chat import USER_ROLE, Conversation, to_json
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Artifact, Draft, read_table
from storage.artifacts.ids import synthetic_id, text_hash
from storage.artifacts.model_files import ensure_loadable, require_weights
from storage.artifacts.schemas import CANDIDATES, SYNTHETIC
from storage.artifacts.survivors import without_dropped
from tasks.backends import Completion, Prompt
from tasks.context import GenerationHistory, HumanData, StageContext, decision_parents
from tasks.evaluation.samples import shared_completions
from tasks.generation.prompt_plan import PromptPlan, as_table, build_prompt_plan, read_topics, topic_coverage
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import ProgressReporter, logger, progress

PART = 1024
"""Candidates in a part: the most that an interruption can lose."""

_COMPLETE = ("stop", "length")
"""Finish reasons of texts that ended as requested."""


@task
def generate(
    ctx: StageContext,
    human: HumanData,
    history: GenerationHistory,
    model: Artifact,
    excluded: Artifact | None = None,
) -> Artifact:
    """Publish the candidates of this attempt.

    Args:
        ctx: context of the attempt.
        human: its training pool is what prompts are made from.
        history: generations whose survivors or scores prompts build on.
        model: model to sample from, unless teachers take its place.
        excluded: decisions against human records that prompts must not use.

    Raises:
        HeirloomError: the plan needs more records than there are, or the sampler returned too few candidates.
    """
    prompts, sampling = ctx.recipe.prompts, ctx.recipe.generate
    settings = {
        "prompts": prompts.model_dump(mode="json"),
        "sampling": sampling.model_dump(mode="json"),
        "seed": ctx.recipe.seed,
        "part": PART,
    }
    if user_code := prompts.user_code():
        settings["user_code"] = {code.reference: code.source_hash() for code in user_code}
    parents = {"human_train": human.train}
    if excluded:
        parents["excluded_records"] = excluded
    if prompts.needs_survivors or sampling.teacher_routing == "routed":
        parents |= decision_parents(history.synthetic)
    records = read_table(human.train.folder, ["id", "text", "source", "messages", "tools"])
    if excluded:
        records = without_dropped(records, excluded.folder)
    topics = _publish_topics(ctx, history, records, parents) if prompts.topic_steering.num_topics else None
    if topics:
        parents["topics"] = topics
    # Teachers answer the same whatever model they replace.
    if "" in sampling.model_names:
        parents["model"] = model
    candidates = ctx.attempt.artifact("candidates", settings, **parents)
    if candidates.exists():
        return candidates
    require_weights(model.folder)
    topic_model = read_topics(topics, records) if topics else None
    plan = build_prompt_plan(ctx.recipe, ctx.attempt, records, history.synthetic, topic_model)
    seeds = [ctx.seed("candidate", serial) for serial in range(len(plan.assignments))]
    shared = shared_completions(model, sampling) if prompts.template_name == "unconditional" else {}
    writer = _CandidateWriter(ctx, model, plan, seeds, shared)
    with candidates.draft() as draft, progress(ctx.attempt, "generate") as report:
        num_stored = draft.num_parts() * PART
        _write_parts(draft, writer, _Throughput(num_stored, len(seeds), report))
        draft.facts = {**_count_facts(draft, has_teachers=any(sampling.model_names)), "resumed_after": num_stored}
        if shared:
            draft.facts["shared_with_eval_samples"] = len(shared.keys() & set(seeds))
    finish_reasons: dict[str, int] = draft.facts["finish_reasons"]
    if incomplete := {reason: count for reason, count in finish_reasons.items() if reason not in _COMPLETE}:
        logger.warning("%s · texts that violate the schema or that the server ended: %s", ctx.attempt, incomplete)
    if cut_prompts := draft.facts["cut_prompts"]:
        logger.warning(
            "%s · %d of %d prompts did not fit into the model's context and were cut at their end (num_cut_tokens). "
            "Shorten them, for example by prompts.prefix_words, or use a model with a longer context",
            *(ctx.attempt, cut_prompts, len(seeds)),
        )
    return candidates


class _Throughput:
    """Report how many candidates are done, and at how many tokens a second."""

    def __init__(self, num_stored: int, total: int, report: ProgressReporter) -> None:
        self._total, self._report, self._started = total, report, time.monotonic()
        self.num_stored = self.base = num_stored
        """Candidates stored by an earlier call, and candidates before the current teacher's."""
        self.tokens = 0

    def __call__(self, num_done: int, _total: int) -> None:
        rate = self.tokens / max(1e-9, time.monotonic() - self._started)
        done = self.base + num_done
        detail = f"{done:,} of {self._total:,}, {rate:,.0f} tokens a second"
        self._report(done, self._total, detail, self.num_stored)


@dataclass(frozen=True)
class _CandidateWriter:
    """Sample the planned candidates, and turn completions into rows."""

    ctx: StageContext
    model: Artifact
    plan: PromptPlan
    seeds: Sequence[int]
    shared: Mapping[int, Completion]
    """Completions that were sampled for evaluation, by seed. Prompt, seed and model are equal, so they are the same."""

    def sample(self, start: int, throughput: _Throughput) -> Generator[Completion]:
        """Yield the completions from candidate `start` on, in order, one teacher after another."""
        assignments = self.plan.assignments
        for teacher, group in groupby(range(start, len(assignments)), key=lambda serial: assignments[serial].teacher):
            serials = list(group)
            prompts = [self._prompt(serial) for serial in serials]
            if not teacher:
                known = [self.shared[prompt.seed] for prompt in takewhile(self._is_shared, prompts)]
                yield from known
                serials, prompts = serials[len(known) :], prompts[len(known) :]
            if not prompts:
                continue
            throughput.base = serials[0]
            sampler = self.ctx.backends.sampler(self.ctx.recipe.generate.for_teacher(teacher))
            for completion in sampler.sample(ensure_loadable(self.model), prompts, throughput):
                throughput.tokens += completion.completion_tokens
                yield completion

    def _is_shared(self, prompt: Prompt) -> bool:
        return prompt == Prompt("", prompt.seed) and prompt.seed in self.shared

    def table(self, start: int, completions: Sequence[Completion]) -> pa.Table:
        """Build the rows of a part whose first candidate is `start`."""
        rows = [self._row(serial, completion) for serial, completion in enumerate(completions, start)]
        return pa.Table.from_pylist(rows, schema=CANDIDATES)

    def _row(self, serial: int, completion: Completion) -> dict[str, object]:
        attempt, prompts = self.ctx.attempt, self.ctx.recipe.prompts
        assignment, spec = self.plan.assignments[serial], self._spec(serial)
        text, conversation = prompts.to_record(spec, completion.text, completion.reasoning)
        sources = (self.plan.human_rows, spec.human_row), (self.plan.survivor_rows, spec.survivor_row)
        parents = [table.slice(row, 1) for table, row in sources if row >= 0]
        return {
            "id": synthetic_id(attempt.generation, attempt.number, serial),
            "text": text,
            "origin": SYNTHETIC,
            "source_generation": attempt.generation,
            "parents": [parent["id"][0].as_py() for parent in parents],
            "source": parents[0]["source"][0].as_py() if parents else "",
            "text_hash": text_hash(text),
            "prompt": spec.text,
            "prompt_template": prompts.template_name,
            "attributes": list(spec.attributes.items()),
            "parameters": self._parameters,
            "model_fingerprint": completion.teacher or self.model.fingerprint,
            "teacher": assignment.teacher or None,
            "prompt_id": assignment.prompt_number,
            "seed": self.seeds[serial] if completion.seed is None else completion.seed,
            "finish_reason": completion.finish_reason,
            "prompt_tokens": completion.prompt_tokens,
            "completion_tokens": completion.completion_tokens,
            "sum_logprob": completion.sum_logprob,
            "num_cut_tokens": completion.num_cut_tokens,
            "reasoning": completion.reasoning or None,
            "reasoning_tokens": completion.reasoning_tokens,
            "num_retries": completion.num_retries,
            "messages": to_json(conversation.messages) if conversation else None,
            "tools": to_json(conversation.tools) if conversation else None,
        }

    def _prompt(self, serial: int) -> Prompt:
        spec = self._spec(serial)
        conversation = spec.conversation
        if self.ctx.recipe.generate.use_chat_template and spec.text and not conversation:
            conversation = Conversation(messages=[{"role": USER_ROLE, "content": spec.text}])
        return Prompt(spec.text, self.seeds[serial], conversation)

    def _spec(self, serial: int) -> PromptSpec:
        return self.plan.specs[self.plan.assignments[serial].prompt_number]

    @cached_property
    def _parameters(self) -> dict[str, object]:
        return self.ctx.recipe.generate.model_dump(include=set(CANDIDATES.field("parameters").type.names))


def _write_parts(draft: Draft, writer: _CandidateWriter, throughput: _Throughput) -> None:
    total = len(writer.seeds)
    with closing(writer.sample(throughput.num_stored, throughput)) as completions:
        for start in range(throughput.num_stored, total, PART):
            part = list(islice(completions, PART))
            if len(part) < min(PART, total - start):
                raise HeirloomError(
                    f"{writer.ctx.attempt}: the sampler returned {start + len(part)} of {total} candidates. "
                    "Run the same command again to resume."
                )
            draft.write_part(writer.table(start, part), start // PART)
        # A sampler that is closed before its end also ends its worker process.
        next(completions, None)


def _publish_topics(
    ctx: StageContext, history: GenerationHistory, records: pa.Table, parents: dict[str, Artifact]
) -> Artifact:
    """Publish how far the last generation covered each topic of the human records."""
    steering = ctx.recipe.prompts.topic_steering
    topics = ctx.attempt.artifact("topics", steering.model_dump(mode="json"), **parents)
    if not topics.exists():
        with topics.draft() as draft, progress(ctx.attempt, "topic_coverage"):
            draft.write_part(as_table(topic_coverage(steering, records, history.synthetic), records))
    return topics


def _count_facts(draft: Draft, *, has_teachers: bool) -> dict[str, object]:
    names = (
        "completion_tokens",
        "finish_reason",
        "model_fingerprint",
        "num_cut_tokens",
        "reasoning_tokens",
        "num_retries",
    )
    table = draft.read(pa.schema([CANDIDATES.field(name) for name in names]))
    facts = {
        "generated_tokens": pc.sum(table["completion_tokens"]).as_py() or 0,
        "finish_reasons": dict(Counter(table["finish_reason"].to_pylist())),
        "reasoning_tokens": pc.sum(table["reasoning_tokens"]).as_py() or 0,
        "json_retries": pc.sum(table["num_retries"]).as_py() or 0,
        "cut_prompts": pc.sum(pc.greater(table["num_cut_tokens"], 0)).as_py() or 0,
    }
    if has_teachers:
        facts["teachers"] = dict(Counter(table["model_fingerprint"].to_pylist()))
    return facts
