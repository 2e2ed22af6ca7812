import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.backends import Completion, Prompt, Resources, Sampling
from tasks.backends.inference.openai_server import sample
from tasks.backends.registry import Backends
from tests.support.openai_server import Reply, answering, echo
from tests.support.progress import ignore_progress
from tests.tasks.conftest import PROMPTS, Served, Trained

_HAS_ALL = all(importlib.util.find_spec(name) for name in ("torch", "vllm", "peft"))


def _real(test: Any) -> Any:
    """A test with a real server."""
    return pytest.mark.transformer(pytest.mark.skipif(not _HAS_ALL, reason="needs the train extra and vLLM")(test))


_NOWHERE = Path("no model is needed")


def _teach(
    addresses: list[str], prompts: list[Prompt], resources: dict[str, Any] | None = None, **settings: Any
) -> Any:
    sampling = Sampling.model_validate({"teacher": "tiny", **settings})
    site = Resources.model_validate({"server_urls": addresses, **(resources or {})})
    return [one for some in sample(sampling, site, _NOWHERE, prompts, ignore_progress) for one in some]


_ASKED = [Prompt(f"p{place}", 50 + place) for place in range(30)]


@pytest.mark.processes
def test_a_teacher_is_sent_text_and_a_seed_of_its_own_each() -> None:
    with answering() as talk:
        texts = _teach([talk.address], _ASKED)
    assert [one.text for one in texts] == [f" p{place} seed {50 + place}" for place in range(30)]
    assert {one.teacher for one in texts} == {"tiny"}
    assert texts[0] == Completion(" p0 seed 50", "stop", 1, 2, -2.0, "tiny")
    assert sorted(body["seed"] for body in talk.bodies) == list(range(50, 80))


@pytest.mark.processes
def test_a_server_that_is_not_vllm_is_sent_only_what_was_asked_for() -> None:
    with answering() as talk:
        _teach([talk.address], _ASKED[:1])
        _teach([talk.address], _ASKED[:1], top_k=5, stop=["x"], presence_penalty=0.5, min_tokens=2)
    plain, special = talk.bodies
    assert set(plain) == {"model", "prompt", "seed", "logprobs", "temperature", "top_p", "max_tokens"}
    assert set(special) - set(plain) == {"top_k", "stop", "presence_penalty", "min_tokens"}


@pytest.mark.processes
def test_vllm_is_sent_everything_because_what_is_left_out_it_takes_from_the_model() -> None:
    with answering(owner="vllm") as talk:
        _teach([talk.address], _ASKED[:1])
    body = talk.bodies[0]
    assert (body["top_k"], body["min_p"], body["repetition_penalty"], body["logprobs"]) == (0, 0.0, 1.0, 0)


@pytest.mark.processes
def test_a_schema_is_sent_as_a_response_format() -> None:
    with answering() as talk:
        _teach([talk.address], _ASKED[:1], json_schema={"type": "object", "required": ["b", "a"]})
    form = talk.bodies[0]["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["strict"] is False  # the schema is open, which strict mode refuses
    assert form["json_schema"]["schema"] == {"type": "object", "required": ["b", "a"]}


@pytest.mark.processes
def test_missing_log_probabilities_stay_empty() -> None:
    choice = {"text": "so", "finish_reason": "length"}
    with answering(lambda body, _: echo(body, choices=[choice], system_fingerprint="fp_1")) as talk:
        (one,) = _teach([talk.address], _ASKED[:1])
    assert one == Completion("so", "length", 1, 2, None, "tiny:fp_1")


@pytest.mark.processes
def test_a_text_that_was_broken_off_is_asked_for_again() -> None:
    def abort(body: dict[str, Any], turn: int) -> Reply:
        return echo(body, choices=[{"text": "ha", "finish_reason": "abort"}]) if turn == 0 else echo(body)

    with answering(abort) as talk:
        assert [one.text for one in _teach([talk.address], _ASKED[:3])] == [f" p{at} seed {50 + at}" for at in range(3)]


@pytest.mark.processes
def test_by_chat_the_prompt_is_the_message_of_a_user() -> None:
    with answering() as talk:
        texts = _teach([talk.address], _ASKED, teacher_api="chat", max_tokens=9)
    assert [one.text for one in texts] == [f" p{place} seed {50 + place}" for place in range(30)]
    assert texts[0] == Completion(" p0 seed 50", "stop", 1, 2, None, "tiny")
    body = next(body for body in talk.bodies if body["seed"] == 50)
    assert body["messages"] == [{"role": "user", "content": "p0"}]
    assert set(body) == {"model", "messages", "seed", "temperature", "top_p", "max_tokens"}
    with answering(owner="vllm") as talk:
        (one,) = _teach([talk.address], _ASKED[:1], teacher_api="chat")
    assert one.sum_logprob == -2.0


@pytest.mark.processes
@pytest.mark.parametrize(("content", "end", "text"), [(None, "length", ""), ("", "stop", ""), ("so", "length", "so")])
def test_a_chat_completion_without_content_is_an_empty_text(content: object, end: str, text: str) -> None:
    choice = {"message": {"content": content}, "finish_reason": end}
    with answering(lambda body, _: echo(body, choices=[choice])) as talk:
        (one,) = _teach([talk.address], _ASKED[:1], teacher_api="chat")
    assert (one.text, one.finish_reason) == (text, end)


@pytest.mark.processes
@pytest.mark.parametrize(
    "choice",
    [
        {"message": {"content": None}, "finish_reason": "tool_calls"},
        {"message": {}, "finish_reason": "stop"},
        {"text": "a completion", "finish_reason": "stop"},
        {"message": {"content": "half"}, "finish_reason": "abort"},
    ],
    ids=["tool", "no content", "no message", "broken off"],
)
def test_a_chat_without_a_text_is_asked_for_again(choice: dict[str, Any]) -> None:
    with answering(lambda body, turn: echo(body, choices=[choice]) if turn == 0 else echo(body)) as talk:
        texts = _teach([talk.address], _ASKED[:3], teacher_api="chat")
    assert [one.text for one in texts] == [f" p{at} seed {50 + at}" for at in range(3)]


@pytest.mark.processes
def test_progress_ends_with_all_of_them() -> None:
    reported: list[tuple[int, int]] = []
    with answering() as talk:
        site = Resources(server_urls=(talk.address,))
        answers = sample(Sampling(teacher="tiny"), site, _NOWHERE, _ASKED, lambda *progress: reported.append(progress))
        assert sum(map(len, answers)) == 30
    assert reported == sorted(reported)
    assert reported[-1] == (30, 30)


@pytest.mark.processes
def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OUR_KEY", "sesame")
    with answering() as talk:
        _teach([talk.address], _ASKED[:1], {"api_key_env_var": "OUR_KEY"})
        assert talk.keys == {"Bearer sesame"}
        monkeypatch.delenv("OUR_KEY")
        with pytest.raises(ValueError, match="is OUR_KEY, which is not set in the environment"):
            _teach([talk.address], _ASKED[:1], {"api_key_env_var": "OUR_KEY"})


def _complete(backends: Backends, model: Path, prompts: list[Prompt] = PROMPTS, **settings: Any) -> list[Completion]:
    sampling = Sampling.model_validate({"max_tokens": 16, **settings})
    return list(backends.sampler(sampling).sample(model, prompts, ignore_progress))


@pytest.fixture(scope="module")
def outside(served: Served, backends: Backends, resources: Resources) -> Iterator[Backends]:
    """Processes whose sampler `server` asks the server that is there."""
    asking = Backends(resources.model_copy(update={"server_urls": (served.address,)}), backends.logs / "outside")
    yield asking
    asking.close()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.7, "top_p": 0.9, "max_tokens": 500},
        {
            "repetition_penalty": 1.4,
            "presence_penalty": 0.5,
            "frequency_penalty": 0.2,
            "stop": ["the"],
            "min_tokens": 3,
        },
    ],
    ids=["plain", "cold", "penalties"],
)
@_real
def test_a_real_server_gives_the_completions_of_the_embedded_engine(
    outside: Backends, backends: Backends, first: Trained, settings: dict[str, Any]
) -> None:
    embedded = _complete(backends, first.folder, sampler="vllm", **settings)
    assert _complete(outside, first.folder, sampler="server", **settings) == embedded
    assert len({one.text for one in embedded}) > 15


@_real
def test_an_adapter_gives_the_same_completions_on_its_own_server_and_loaded_into_another(
    served: Served, outside: Backends, backends: Backends, first: Trained
) -> None:
    assert _complete(outside, served.adapter, sampler="server") == served.completions
    assert [one.text for one in served.completions] != [
        one.text for one in _complete(backends, first.folder, sampler="vllm")
    ]


@_real
def test_an_adapter_whose_probe_differs_is_refused(served: Served, outside: Backends, tmp_path: Path) -> None:
    tampered = shutil.copytree(served.adapter, tmp_path / "tampered")
    probe = json.loads((tampered / "probe.json").read_text())
    probe["log_probability"] += 0.002 * len(probe["token_ids"])
    (tampered / "probe.json").write_text(json.dumps(probe))
    with pytest.raises(ValueError, match=r"does not serve the weights of .*tampered: the log-probability of"):
        _complete(outside, tampered, sampler="server")


@_real
def test_a_teacher_on_a_real_server_is_recorded_with_its_version(outside: Backends, first: Trained) -> None:
    prompts = [Prompt("The old", seed) for seed in range(8)]
    texts = _complete(outside, _NOWHERE, prompts, teacher=str(first.folder))
    (teacher,) = {one.teacher for one in texts}
    assert teacher.startswith(f"{first.folder}:vllm-")
    assert len({one.text for one in texts}) == 8
    assert all(one.sum_logprob is not None and one.sum_logprob < 0 for one in texts)


@_real
def test_a_teacher_on_a_real_server_answers_by_chat(outside: Backends, first: Trained) -> None:
    prompts = [Prompt("The old", seed) for seed in range(8)]
    texts = _complete(outside, _NOWHERE, prompts, teacher=str(first.folder), teacher_api="chat")
    assert len({one.text for one in texts}) == 8
    assert all(one.sum_logprob is not None and one.sum_logprob < 0 for one in texts)
    again = _complete(outside, _NOWHERE, prompts[3:5], teacher=str(first.folder), teacher_api="chat")
    assert [one.text for one in again] == [one.text for one in texts[3:5]]


@_real
def test_a_refusal_of_a_real_server_is_a_sentence(outside: Backends, first: Trained) -> None:
    with pytest.raises(ValueError, match=r"/v1/completions refused the request: 400 .*"):
        _complete(outside, _NOWHERE, [Prompt("", 0)], teacher=str(first.folder))


@_real
def test_texts_of_server_and_engine_keep_to_a_schema(outside: Backends, backends: Backends, first: Trained) -> None:
    schema = {"type": "object", "properties": {"kind": {"enum": ["river", "garden"]}}, "required": ["kind"]}
    schema["additionalProperties"] = False
    texts = _complete(outside, first.folder, sampler="server", json_schema=schema, max_tokens=40)
    assert {json.loads(one.text)["kind"] for one in texts} == {"river", "garden"}
    assert {one.finish_reason for one in texts} == {"stop"}
    assert texts == _complete(backends, first.folder, sampler="vllm", json_schema=schema, max_tokens=40)


@_real
def test_a_model_that_no_server_has_is_refused(outside: Backends, second: Trained) -> None:
    with pytest.raises(ValueError, match=r"not the model .*Remove `resources\.server_urls`"):
        _complete(outside, second.folder, sampler="server")
