"""Judge the candidates of one generation by the checks of the human records that they answer.

Every candidate gets one result, whether a later filter keeps it or not: what is dropped stays queryable, and so does
how often each problem is solved.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

import pyarrow as pa

from curation.verification.checks import parse_check
from curation.verification.settings import VerifySettings
from heirloom.chat import ASSISTANT_ROLE, parse_chat_text
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.schemas import CHECK_RESULTS
from tasks.context import HumanData, StageContext
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import progress
from tasks.verification.judge import STORED_CHARACTERS, judge_all

PART = 256
"""Candidates in a part: the most that an interruption can lose."""


@dataclass(frozen=True, kw_only=True)
class CheckedAnswer:
    """An answer, and the check of the problem that it answers, as the column `checks` holds it."""

    record: str
    """Id of the answer."""
    problem: str | None
    """Id of the human record; None if no record that it was made from has a check."""
    check: str | None
    text: str


@task
def verify(ctx: StageContext, human: HumanData, candidates: Artifact) -> Artifact | None:
    """Publish the result of the check of each candidate, if the recipe has the filter `checks`.

    Raises:
        HeirloomError: no human record has a check, or this machine cannot isolate what must be executed.
    """
    if "checks" not in ctx.recipe.curate.filters:
        return None
    results = ctx.attempt.artifact(
        "check_results",
        ctx.recipe.verify.model_dump(mode="json", exclude={"workers"}),
        candidates=candidates,
        human_train=human.train,
    )
    if results.exists():
        return results
    checks = _read_checks(human.train)
    table = read_table(candidates.folder, ["id", "text", "prompt", "parents"])
    with results.draft() as draft, progress(ctx.attempt, "verify") as report:
        num_done = draft.num_parts()
        for number in range(num_done, -(-len(table) // PART)):
            answers = list(_checked_answers(table.slice(number * PART, PART).to_pylist(), checks))
            rows = list(judge_answers(ctx.recipe.verify, answers))
            draft.write_part(pa.Table.from_pylist(rows, schema=CHECK_RESULTS), number)
            report(min(len(table), (number + 1) * PART), len(table))
        outcomes = Counter(draft.read(pa.schema([CHECK_RESULTS.field("outcome")]))["outcome"].to_pylist())
        draft.facts = {"outcomes": dict(outcomes.most_common())}
    return results


def _read_checks(human_train: Artifact) -> dict[str, str]:
    table = read_table(human_train.folder, ["id", "checks"])
    checks = {row["id"]: row["checks"] for row in table.to_pylist() if row["checks"]}
    if not checks:
        raise HeirloomError(
            "`curate.filters` contains checks, and no human record has a check. Ingest problems with a column of "
            "checks (`heirloom ingest --set check_column=NAME`), or remove the filter."
        )
    return checks


def _checked_answers(rows: Sequence[Mapping[str, str]], checks: Mapping[str, str]) -> Iterator[CheckedAnswer]:
    for row in rows:
        problem = next((parent for parent in row["parents"] if parent in checks), None)
        yield CheckedAnswer(
            record=row["id"],
            problem=problem,
            check=checks[problem] if problem else None,
            text=answer_of(row["prompt"], row["text"]),
        )


def judge_answers(settings: VerifySettings, answers: Sequence[CheckedAnswer]) -> Iterator[dict[str, object]]:
    """Judge answers, and yield a row of `CHECK_RESULTS` for each, in their order.

    Raises:
        HeirloomError: an answer must be executed, and this machine cannot isolate it.
    """
    parsed = {answer.check: parse_check(answer.check) for answer in answers if answer.check}
    judged = judge_all(settings, [(answer.text, parsed[answer.check]) for answer in answers if answer.check])
    for answer in answers:
        row: dict[str, object] = {
            "id": answer.record,
            "problem": answer.problem,
            "answer": answer.text[:STORED_CHARACTERS],
        }
        if answer.check:
            verdict = next(judged)
            yield row | {"kind": parsed[answer.check].kind, "passed": verdict.passed, **asdict(verdict)}
        else:
            yield row | {"passed": False, "outcome": "no_check", "detail": "its human record has no check"}


def answer_of(prompt: str, text: str) -> str:
    """Return the part of a candidate's text that answers its prompt: the last response, or what follows the prompt."""
    if text.startswith("### "):
        try:
            responses = [
                message["content"] or "" for message in parse_chat_text(text) if message["role"] == ASSISTANT_ROLE
            ]
        except HeirloomError:
            responses = []
        if responses:
            return responses[-1]
    return text.removeprefix(prompt)
