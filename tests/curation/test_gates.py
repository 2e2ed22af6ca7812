import math

import pytest
from pydantic import ValidationError

from curation.gates import KNOWN_METRICS, GateSettings, Limit, Verdict, judge, worst


def _judged(limit: Limit, first: float, now: float) -> Verdict:
    verdicts = judge(GateSettings(limits=(limit,)), {limit.metric: first}, {limit.metric: now})
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


@pytest.mark.parametrize("limit", [Limit(metric="perplexity", at_most=2), Limit(metric="types", at_least=0.5)])
@pytest.mark.parametrize(("first", "now"), [(10.0, math.nan), (math.nan, 10.0), (math.nan, math.nan)])
def test_a_value_that_is_no_number_holds_no_limit(limit: Limit, first: float, now: float) -> None:
    verdict = _judged(limit, first, now)
    assert verdict.action == "warn"
    assert "nan" in verdict.reason


def test_the_reason_says_metric_value_bound_and_where_it_comes_from() -> None:
    above = _judged(Limit(metric="perplexity", at_most=1.5), 10, 31)
    below = _judged(Limit(metric="types", at_least=0.7), 1000, 5)
    assert above.reason == "perplexity is 31, above 1.5 x generation 0's 10"
    assert below.reason == "types is 5, below 0.7 x generation 0's 1000"


def test_generation_0_passes_its_own_default_gate() -> None:
    metrics = {"perplexity": 123.4, "rare_word_coverage": 0.0}
    assert [verdict.action for verdict in judge(GateSettings(), metrics, metrics)] == ["go", "go"]


def test_every_limit_has_its_verdict_in_order() -> None:
    limits = (Limit(metric="types", at_least=0.5), Limit(metric="perplexity", at_most=1.1, action="stop"))
    verdicts = judge(
        GateSettings(limits=limits), {"types": 10, "perplexity": 10}, {"types": 10, "perplexity": 12, "repetition": 1}
    )
    assert [(verdict.metric, verdict.action) for verdict in verdicts] == [("types", "go"), ("perplexity", "stop")]


def test_a_limit_on_something_not_measured_is_refused() -> None:
    gate = GateSettings(limits=(Limit(metric="types", at_least=0.5),))
    with pytest.raises(ValueError, match=r"limit on types.*measured: perplexity"):
        judge(gate, {"types": 1.0}, {"perplexity": 1.0})
    with pytest.raises(ValueError, match="limit on types"):
        judge(gate, {"perplexity": 1.0}, {"types": 1.0})


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
    ],
)
def test_wrong_limits_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as refused:
        Limit.model_validate(wrong)
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize("metric", KNOWN_METRICS)
def test_every_known_metric_can_be_limited(metric: str) -> None:
    assert _judged(Limit(metric=metric, at_most=1), 1.0, 2.0).action == "warn"


def test_the_worst_action_speaks_for_all() -> None:
    def said(*actions: str) -> str:
        return worst([Verdict(action, "types", 1.0, 1.0, "") for action in actions])  # type: ignore[arg-type]

    assert said() == "go"
    assert said("go", "go") == "go"
    assert said("go", "warn", "go") == "warn"
    assert said("stop", "warn", "go") == "stop"
