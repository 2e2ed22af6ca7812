"""Measure how often answers pass their checks, and how much the answers to one problem differ."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation.metrics.bootstrap import bootstrap
from curation.metrics.settings import Measured
from curation.prompts.plan import PromptSources, plan_prompts
from curation.verification.accounting import answer_entropies, pass_at_k
from storage.artifacts.artifact import Artifact, read_table
from storage.artifacts.ids import derive_seed
from storage.artifacts.model_files import ensure_loadable, require_weights
from storage.artifacts.schemas import CHECK_RESULTS
from tasks.backends import Prompt
from tasks.context import HumanData, StageContext
from tasks.evaluation.inputs import EvalInputs, MetricRow, metric_rows
from tasks.orchestration.progress import progress
from tasks.verification.verify import CheckedAnswer, judge_answers


def answer_heldout(ctx: StageContext, human: HumanData, model: Artifact) -> Artifact | None:
    """Publish the results of a model's answers to the held-out problems, if the recipe has the filter `checks`.

    The prompts are those of candidates, made from held-out records with a check. Nothing is trained on the answers.
    """
    prompts, sampling = ctx.recipe.prompts, ctx.recipe.generate.without_teacher
    if "checks" not in ctx.recipe.curate.filters or not prompts.needs_records:
        return None
    problems = read_table(human.heldout.folder, ["id", "text", "source", "checks"])
    problems = problems.filter(pc.is_valid(problems["checks"]))
    if not len(problems):
        return None
    num_answers = ctx.recipe.evaluate.answers_per_problem
    identity = {
        "prompts": prompts.model_dump(mode="json"),
        "sampling": sampling.model_dump(mode="json"),
        "verify": ctx.recipe.verify.model_dump(mode="json", exclude={"workers"}),
        "answers_per_problem": num_answers,
        "seed": ctx.recipe.seed,
    }
    results = ctx.attempt.artifact("heldout_check_results", identity, model=model, human_heldout=human.heldout)
    if results.exists():
        return results
    require_weights(model.folder)
    # One prompt from each problem, whatever the numbers and shares of a generation are.
    settings = prompts.model_copy(
        update={"prompts_per_human_record": 1.0, "max_prompts_per_record": 1, "source_shares": None}
    )
    specs = plan_prompts(settings, PromptSources(records=problems["text"].to_pylist()), ctx.seed("heldout_prompts"))
    with results.draft() as draft, progress(ctx.attempt, "answer_heldout") as report:
        asked = [(spec, number) for spec in specs for number in range(num_answers)]
        to_sample = [
            Prompt(
                spec.text,
                derive_seed(ctx.recipe.seed, "heldout_answer", ctx.attempt.generation, spec.human_row, number),
            )
            for spec, number in asked
        ]
        completions = ctx.backends.sampler(sampling).sample(ensure_loadable(model), to_sample, report)
        ids, checks = problems["id"].to_pylist(), problems["checks"].to_pylist()
        answers = [
            CheckedAnswer(
                record=f"{ids[spec.human_row]}-{number}",
                problem=ids[spec.human_row],
                check=checks[spec.human_row],
                text=completion.text,
            )
            for (spec, number), completion in zip(asked, completions, strict=True)
        ]
        draft.write_part(pa.Table.from_pylist(list(judge_answers(ctx.recipe.verify, answers)), schema=CHECK_RESULTS))
    return results


def measure_checks(eval_inputs: EvalInputs, heldout_results: Artifact | None) -> list[MetricRow]:
    """Measure the candidates' answers, and the model's answers to held-out problems.

    Every candidate with a check counts, also those that filters drop.
    """
    results = {"model": heldout_results, "candidates": eval_inputs.curated and eval_inputs.curated.check_results}
    return [row for subject, artifact in results.items() if artifact for row in _measure(subject, artifact)]


def _measure(subject: str, results: Artifact) -> list[MetricRow]:
    """Measure pass@1, pass@k for the least number of answers to a problem, and the diversity of answers.

    Intervals are over problems.
    """
    answers: dict[str, list[str]] = {}
    num_right: Counter[str] = Counter()
    for row in read_table(results.folder, ["problem", "passed", "answer"]).to_pylist():
        if row["problem"] is not None:
            answers.setdefault(row["problem"], []).append(row["answer"].strip())
            num_right[row["problem"]] += row["passed"]
    if not answers:
        return []
    given = list(answers.values())
    samples = np.array([len(texts) for texts in given])
    right = np.array([num_right[problem] for problem in answers])
    values = {
        "pass_at_1": pass_at_k(samples, right, 1),
        "pass_at_k": pass_at_k(samples, right, int(samples.min())),
        "answer_entropy": answer_entropies(given),
        "distinct_answers": np.array([len(set(texts)) / len(texts) for texts in given]),
    }
    measured = [
        Measured(name, float(by_problem.mean()), *bootstrap(by_problem, 0), len(by_problem))
        for name, by_problem in values.items()
    ]
    return metric_rows(subject, measured)
