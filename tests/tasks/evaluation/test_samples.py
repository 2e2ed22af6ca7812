from collections.abc import Callable

from curation.metrics.settings import EvalSettings
from storage.artifacts.artifact import read_manifest, read_table
from tasks.backends import Sampling
from tasks.backends.registry import Backends
from tasks.evaluation.samples import sample_for_eval
from tests.tasks.conftest import Beginning

_SETTINGS = EvalSettings(num_samples=12, showcase_prompt="The old")
_SAMPLING = Sampling(sampler="ngram", max_tokens=9)


def test_a_voice_is_heard_once_and_begins_with_the_opening(
    begin: Callable[[str], Beginning], backends: Backends
) -> None:
    begun = begin("tiny")
    voice = sample_for_eval(begun.attempt(0), begun.model, _SETTINGS, _SAMPLING, 0, backends)
    rows = read_table(voice.folder).to_pylist()
    assert [row["prompt"] for row in rows] == ["The old"] + [""] * 12
    assert rows[0]["text"].startswith("The old")
    written = read_manifest(voice.folder)["finished"]
    assert sample_for_eval(begun.attempt(0), begun.model, _SETTINGS, _SAMPLING, 0, backends) == voice
    assert read_manifest(voice.folder)["finished"] == written
