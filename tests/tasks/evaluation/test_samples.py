from collections.abc import Callable

from curation.metrics.settings import EvalSettings
from storage.artifacts.artifact import read_manifest, read_table
from tasks.backends import Sampling
from tasks.evaluation.samples import sample_for_eval
from tests.tasks.conftest import StartedRun

_SETTINGS = EvalSettings(num_samples=12, showcase_prompt="The old")
_SAMPLING = Sampling(sampler="ngram", max_tokens=9)


def test_eval_samples_are_made_once_and_start_with_the_showcase_prompt(
    start_run: Callable[[str], StartedRun],
) -> None:
    started = start_run("tiny")
    ctx = started.context(0, evaluate=_SETTINGS, generate=_SAMPLING)
    samples = sample_for_eval(ctx, started.model)
    rows = read_table(samples.folder).to_pylist()
    assert [row["prompt"] for row in rows] == ["The old"] + [""] * 12
    assert rows[0]["text"].startswith("The old")
    finished = read_manifest(samples.folder)["finished"]
    assert sample_for_eval(ctx, started.model) == samples
    assert read_manifest(samples.folder)["finished"] == finished
