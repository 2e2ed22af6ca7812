"""Gates, and which of their actions are reviewed."""

import math

import pytest
from pydantic import ValidationError

from curation.gates import ACTIONS, GateSettings, Limit, Verdict, evaluate_gate, most_severe
from curation.metrics.settings import METRICS
from curation.metrics.types import Value
from curation.review import REVIEWED_ACTIONS, ReviewSettings


def _metrics(**values: float) -> dict[tuple[str, str], Value]:
    return {("model", name): Value(value) for name, value in values.items()}


def _judged(limit: Limit, *values: float) -> Verdict:
    verdicts = evaluate_gate(GateSettings(limits=(limit,)), [_metrics(**{limit.metric: value}) for value in values])
    assert len(verdicts) == 1
    return verdicts[0]


@pytest.mark.parametrize(("now", "action"), [(5.0, "go"), (15.0, "go"), (15.001, "warn"), (math.inf, "warn")])
def test_at_most_holds_up_to_its_bound(now: float, action: str) -> None:
    verdict = _judged(Limit(metric="perplexity", at_most=1.5), 10.0, now)
    assert (verdict.action, verdict.value, verdict.limit) == (action, now, 15.0)
    assert bool(verdict.reason) == (action != "go")


@pytest.mark.parametrize(("now", "action"), [(0.9, "go"), (0.25, "go"), (0.2499, "stop"), (0.0, "stop")])
def test_at_least_holds_down_to_its_bound(now: float, action: str) -> None:
    verdict = _judged(Limit(metric="rare_word_coverage", at_least=0.5, action="stop"), 0.5, now)
    assert (verdict.action, verdict.value, verdict.limit) == (action, now, 0.25)
    assert bool(verdict.reason) == (action != "go")


@pytest.mark.parametrize(
    "limit", [Limit(metric="perplexity", at_most=2), Limit(metric="vocabulary_size", at_least=0.5)]
)
@pytest.mark.parametrize(("first", "now"), [(10.0, math.nan), (math.nan, 10.0), (math.nan, math.nan)])
def test_a_value_that_is_no_number_holds_no_limit_and_is_not_stored(limit: Limit, first: float, now: float) -> None:
    verdict = _judged(limit, first, now)
    assert verdict.action == "warn"
    assert "nan" in verdict.reason
    assert (verdict.value is None) == math.isnan(now)
    assert (verdict.limit is None) == math.isnan(first)


def test_the_reason_names_metric_value_interval_generation_and_bound() -> None:
    above = _judged(Limit(metric="perplexity", at_most=1.5), 10, 12, 31)
    assert above.reason == "perplexity of the model is 31 in generation 2, above 15 = 1.5 x generation 0's"
    metrics = [{("corpus", "vocabulary_size"): Value(1000)}, {("corpus", "vocabulary_size"): Value(5, 4, 6)}]
    (below,) = evaluate_gate(
        GateSettings(limits=(Limit(metric="vocabulary_size", subject="corpus", at_least=0.7),)), metrics
    )
    assert below.reason == "vocabulary_size of the corpus is 5 [4, 6] in generation 1, below 700 = 0.7 x generation 0's"
    assert (below.low, below.high, below.generation, below.first_generation, below.subject) == (4, 6, 1, 1, "corpus")


def test_patience_waits_for_consecutive_generations_and_names_the_first() -> None:
    limit = Limit(metric="vocabulary_size", at_least=0.5, patience=2)
    assert _judged(limit, 10, 1).action == "go"
    assert _judged(limit, 10, 1).first_generation == 1
    assert _judged(limit, 10, 1, 9, 1).action == "go"
    tired = _judged(limit, 10, 9, 1, 1)
    assert (tired.action, tired.first_generation) == ("warn", 2)
    assert tired.reason.endswith("since generation 2")


def test_a_limit_can_be_absolute_or_against_human_text() -> None:
    absolute = Limit(metric="loss_change", baseline="value", at_most=0.0)
    assert _judged(absolute, 0.0).action == "go"
    assert _judged(absolute, 0.0, 0.1).action == "warn"
    limit = Limit(metric="vendi", baseline="human", at_least=0.9)
    metrics = [{("model", "vendi"): Value(80), ("human", "vendi"): Value(100)}]
    (verdict,) = evaluate_gate(GateSettings(limits=(limit,)), metrics)
    assert (verdict.action, verdict.limit) == ("warn", 90)
    with pytest.raises(ValueError, match="vendi is not measured for human text"):
        evaluate_gate(GateSettings(limits=(limit,)), [{("model", "vendi"): Value(80)}])


def test_a_certain_limit_is_broken_by_the_whole_interval() -> None:
    limit = Limit(metric="type_coverage_change", baseline="value", at_least=0, require_significance=True)
    for value, action in ((Value(-0.1, -0.2, 0.01), "go"), (Value(-0.1, -0.2, -0.01), "warn"), (Value(-0.1), "warn")):
        (verdict,) = evaluate_gate(GateSettings(limits=(limit,)), [{("model", limit.metric): value}])
        assert verdict.action == action


def test_candidates_are_held_against_the_first_there_were() -> None:
    gate = GateSettings(limits=(Limit(metric="vocabulary_size", subject="candidates", at_least=0.5),))
    candidates = [{("candidates", "vocabulary_size"): Value(value)} for value in (100, 60, 40)]
    assert evaluate_gate(gate, [_metrics(vocabulary_size=1)])[0].action == "go"
    assert [
        evaluate_gate(gate, [_metrics(vocabulary_size=1), *candidates[: place + 1]])[0].action for place in range(3)
    ] == [
        "go",
        "go",
        "warn",
    ]


def test_generation_0_passes_its_own_default_gate() -> None:
    metrics = {
        **_metrics(perplexity=123.4, rare_word_coverage=0.0, rare_bigram_coverage=0.5),
        ("corpus", "vocabulary_retained"): Value(0.98),
    }
    assert {verdict.action for verdict in evaluate_gate(GateSettings(), [metrics])} == {"go"}


def test_every_limit_has_its_verdict_in_order() -> None:
    limits = (Limit(metric="vocabulary_size", at_least=0.5), Limit(metric="perplexity", at_most=1.1, action="stop"))
    verdicts = evaluate_gate(
        GateSettings(limits=limits),
        [_metrics(vocabulary_size=10, perplexity=10), _metrics(vocabulary_size=10, perplexity=12)],
    )
    assert [(verdict.metric, verdict.action) for verdict in verdicts] == [
        ("vocabulary_size", "go"),
        ("perplexity", "stop"),
    ]


def test_a_limit_on_something_not_measured_is_refused() -> None:
    gate = GateSettings(limits=(Limit(metric="vocabulary_size", at_least=0.5),))
    with pytest.raises(ValueError, match=r"limit on vocabulary_size of the model.*Measured metrics: perplexity"):
        evaluate_gate(gate, [_metrics(vocabulary_size=1.0), _metrics(perplexity=1.0)])
    with pytest.raises(ValueError, match=r"limit on custom.happiness"):
        evaluate_gate(
            GateSettings(limits=(Limit(metric="custom.happiness", at_least=0.5),)), [_metrics(perplexity=1.0)]
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"metric": "happiness", "at_most": 1},
        {"metric": "perplexity"},
        {"metric": "perplexity", "at_most": 1, "at_least": 1},
        {"metric": "perplexity", "at_most": 0},
        {"metric": "perplexity", "at_most": math.nan},
        {"metric": "perplexity", "at_least": -1},
        {"metric": "perplexity", "at_most": 1, "action": "go"},
        {"metric": "perplexity", "at_most": 1, "floor": 0},
        {"metric": "custom.", "at_most": 1},
        {"metric": "perplexity", "at_most": 1, "patience": 0},
        {"metric": "perplexity", "at_most": 1, "subject": "human"},
    ],
)
def test_wrong_limits_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as refused:
        Limit.model_validate(wrong)
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize("metric", [*METRICS, "custom.accuracy"])
def test_every_known_metric_can_be_limited(metric: str) -> None:
    assert _judged(Limit(metric=metric, at_most=1), 1.0, 2.0).action == "warn"


def test_the_most_severe_action_decides() -> None:
    def severest(*actions: str) -> str:
        return most_severe([Verdict(action, "vocabulary_size", 1.0, 1.0, "") for action in actions])  # type: ignore[arg-type]

    assert severest() == "go"
    assert severest("go", "go") == "go"
    assert severest("go", "warn", "go") == "warn"
    assert severest("stop", "warn", "roll_back") == "stop"
    assert severest("raise_human_fraction", "warn", "roll_back") == "roll_back"


def test_no_action_is_reviewed_by_default() -> None:
    assert REVIEWED_ACTIONS[ReviewSettings().when] == ()


def test_only_verdicts_that_would_be_accepted_are_asked_about() -> None:
    assert {action for asked in REVIEWED_ACTIONS.values() for action in asked} == set(ACTIONS[:2])


def test_silence_cannot_mean_to_make_a_generation_again() -> None:
    # It would be made again, asked about and made again for as long as no review comes.
    with pytest.raises(ValidationError, match="'accept' or 'stop'"):
        ReviewSettings.model_validate({"default_decision": "redo"})
