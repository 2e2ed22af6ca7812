"""Judge one answer by its check: in the sandbox, unless the check only compares texts."""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Literal

from jsonschema import Draft202012Validator

from curation.verification.checks import Answer, Check, JsonSchema, PythonTests, is_equal_answer
from curation.verification.code_blocks import complete_program, extract_code
from curation.verification.settings import VerifySettings

if TYPE_CHECKING:
    from tasks.verification.sandbox import Execution, Sandbox

Outcome = Literal["passed", "failed", "error", "timeout", "output"]
"""`failed`: another result than expected. `error`: it cannot be executed. `timeout`, `output`: it reached a limit."""

_PROGRAMS = Path(__file__).parent / "programs"
STORED_CHARACTERS = 4000
"""Most characters of an answer, and of what it prints, that are stored."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a check found about one answer."""

    outcome: Outcome
    detail: str = ""
    """Why it did not pass: the failed assertion, the error, or the limit."""
    stdout: str = ""
    stderr: str = ""
    return_code: int | None = None
    """Exit status of the executed answer, negative for a signal; None without execution."""
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether the answer is right."""
        return self.outcome == "passed"


def judge_all(settings: VerifySettings, answers: Iterable[tuple[str, Check]]) -> Iterator[Verdict]:
    """Judge answers, several at a time; yields the verdicts in their order.

    Raises:
        HeirloomError: an answer must be executed, and this machine cannot isolate it.
    """
    pairs = list(answers)
    if all(_is_comparison(check) for _, check in pairs):
        yield from (_compare(answer, check) for answer, check in pairs)
        return
    # Imported here, since it takes a third of a second, and most recipes execute nothing.
    from tasks.verification.sandbox import Sandbox

    with ExitStack() as stack:
        free: SimpleQueue[Sandbox] = SimpleQueue()
        for _ in range(min(settings.workers, len(pairs))):
            free.put(stack.enter_context(Sandbox(settings.sandbox)))

        def judge_next(pair: tuple[str, Check]) -> Verdict:
            sandbox = free.get()
            try:
                return judge(sandbox, *pair)
            finally:
                free.put(sandbox)

        pool = stack.enter_context(ThreadPoolExecutor(settings.workers))
        stack.callback(pool.shutdown, wait=True, cancel_futures=True)
        yield from pool.map(judge_next, pairs)


def judge(sandbox: "Sandbox", answer: str, check: Check) -> Verdict:
    """Judge one answer."""
    from tasks.verification.sandbox import Program

    if _is_comparison(check):
        return _compare(answer, check)
    if isinstance(check, PythonTests):
        return _judge_python(sandbox, answer, check)
    text = extract_code(answer, languages=("sql", "duckdb", "")) if check.kind == "sql" else answer
    files = {
        "check.py": _source("check.py"),
        "answer.txt": text,
        "check.json": json.dumps(check.model_dump(mode="json", by_alias=True)),
    }
    execution = sandbox.run(Program(main="check.py", arguments=[check.kind], files=files))
    return _verdict(execution, execution)


def _judge_python(sandbox: "Sandbox", answer: str, check: PythonTests) -> Verdict:
    from tasks.verification.sandbox import CALLS, RESULTS, Program

    program = complete_program(check.prompt, answer, check.entry_point)
    solution = Program(
        main="solution.py",
        arguments=[CALLS, RESULTS, check.entry_point],
        files={
            "solution.py": _source("solution.py"),
            "literals.py": _source("literals.py"),
            "answer.py": program,
        },
    )
    grader = Program(
        main="grader.py",
        arguments=[CALLS, RESULTS, check.entry_point],
        files={
            "grader.py": _source("grader.py"),
            "literals.py": _source("literals.py"),
            "prompt.py": f"{check.prompt.rstrip()}\n    pass\n" if check.prompt.strip() else "",
            "tests.py": check.tests,
        },
    )
    return _verdict(*sandbox.run_pair(solution, grader))


def _verdict(execution: "Execution", grading: "Execution") -> Verdict:
    """Combine what the answer printed with the report of the program that judged it."""
    outcome, detail = _read_report(grading)
    if execution.outcome != "finished":
        # Its partner saw only that the answer ended.
        outcome, detail = execution.outcome, _LIMITS[execution.outcome]
    return Verdict(
        outcome=outcome,
        detail=detail,
        stdout=execution.stdout[:STORED_CHARACTERS],
        stderr=execution.stderr[:STORED_CHARACTERS],
        return_code=execution.return_code,
        seconds=grading.seconds,
    )


_LIMITS = {
    "timeout": "it ran longer than verify.sandbox.wall_seconds",
    "output": "it printed more than verify.sandbox.output_kb",
}


def _read_report(grading: "Execution") -> tuple[Outcome, str]:
    if grading.outcome != "finished":
        return grading.outcome, _LIMITS[grading.outcome]
    try:
        report = json.loads(grading.stdout.rstrip("\n").rpartition("\n")[2])
        return report["outcome"], str(report["detail"])
    except (ValueError, KeyError, TypeError):
        last = grading.stderr.strip().rpartition("\n")[2][:300]
        return "error", f"the tests ended without a result{f': {last}' if last else ''}"


def _is_comparison(check: Check) -> bool:
    return isinstance(check, Answer | JsonSchema)


def _compare(answer: str, check: Check) -> Verdict:
    """Judge an answer whose check executes nothing."""
    if isinstance(check, Answer):
        passed = is_equal_answer(answer, check)
        return Verdict(outcome="passed" if passed else "failed", detail="" if passed else "another answer")
    if not isinstance(check, JsonSchema):
        raise TypeError(f"{check.kind} is not a comparison")
    try:
        value = json.loads(extract_code(answer, languages=("json", "")))
    except (ValueError, RecursionError) as error:
        return Verdict(outcome="error", detail=f"not JSON: {error}")
    errors = sorted(Draft202012Validator(check.schema_).iter_errors(value), key=str)
    return Verdict(outcome="failed", detail=errors[0].message[:300]) if errors else Verdict(outcome="passed")


@cache
def _source(name: str) -> str:
    return (_PROGRAMS / name).read_text(encoding="utf-8")
