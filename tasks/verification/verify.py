"""Judge the candidates of one generation by the checks of the human records that they answer.

Every candidate gets one result, whether a later filter keeps it or not: what is dropped stays queryable, and so does
how often each problem is solved.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import pyarrow as pa

from curation.verification.checks import Check, parse_check
from heirloom.chat import ASSISTANT_ROLE, parse_chat_text
from heirloom.errors import HeirloomError
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.schemas import CHECK_RESULTS
from tasks.context import HumanData, StageContext
from tasks.orchestration.prefect import task
from tasks.orchestration.progress import progress
from tasks.verification.judge import Verdict, judge_all

PART = 256
"""Candidates in a part: the most that an interruption can lose."""
_STORED_CHARACTERS = 4000


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
            rows = table.slice(number * PART, PART).to_pylist()
            draft.write_part(pa.Table.from_pylist(list(_judge(ctx, rows, checks)), schema=CHECK_RESULTS), number)
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


def _judge(ctx: StageContext, rows: Sequence[dict[str, object]], checks: dict[str, str]) -> Iterator[dict[str, object]]:
    problems = [next((str(parent) for parent in _parents(row) if parent in checks), "") for row in rows]
    parsed: dict[str, Check] = {problem: parse_check(checks[problem]) for problem in problems if problem}
    answers = [answer_of(str(row["prompt"]), str(row["text"])) for row in rows]
    judged = judge_all(
        ctx.recipe.verify,
        [(answer, parsed[problem]) for answer, problem in zip(answers, problems, strict=True) if problem],
    )
    for row, problem, answer in zip(rows, problems, answers, strict=True):
        verdict = next(judged) if problem else None
        yield {
            "id": row["id"],
            "problem": problem or None,
            "kind": parsed[problem].kind if problem else None,
            "answer": answer[:_STORED_CHARACTERS],
            **_columns(verdict),
        }


def _parents(row: dict[str, object]) -> list[object]:
    parents = row["parents"]
    return parents if isinstance(parents, list) else []


def _columns(verdict: Verdict | None) -> dict[str, object]:
    if verdict is None:
        return {"passed": False, "outcome": "no_check", "detail": "its human record has no check"}
    return {
        "passed": verdict.passed,
        "outcome": verdict.outcome,
        "detail": verdict.detail,
        "stdout": verdict.stdout,
        "stderr": verdict.stderr,
        "return_code": verdict.return_code,
        "seconds": verdict.seconds,
    }


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
