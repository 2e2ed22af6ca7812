"""Measure how often candidates pass their checks, and how much the answers to one problem differ."""

from collections import Counter

import numpy as np

from curation.metrics.bootstrap import bootstrap
from curation.metrics.settings import Measured
from curation.verification.accounting import answer_entropies, pass_at_k
from storage.artifacts.artifact import read_table
from tasks.evaluation.inputs import EvalInputs, MetricRow, metric_rows


def measure_checks(eval_inputs: EvalInputs) -> list[MetricRow]:
    """Measure pass@1, pass@k for the least number of answers to a problem, and the diversity of answers.

    Every candidate with a check counts, also those that filters drop. Intervals are over problems.
    """
    if eval_inputs.curated is None or eval_inputs.curated.check_results is None:
        return []
    table = read_table(eval_inputs.curated.check_results.folder, ["problem", "passed", "answer"])
    answers: dict[str, list[str]] = {}
    num_right: Counter[str] = Counter()
    for row in table.to_pylist():
        if row["problem"] is not None:
            answers.setdefault(row["problem"], []).append(row["answer"].strip())
            num_right[row["problem"]] += row["passed"]
    if not answers:
        return []
    samples = np.array([len(given) for given in answers.values()])
    right = np.array([num_right[problem] for problem in answers])
    given = list(answers.values())
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
    return metric_rows("candidates", measured)
