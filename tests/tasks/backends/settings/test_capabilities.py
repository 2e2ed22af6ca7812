from typing import Any

import pytest

from tasks.backends import Resources, Sampling
from tasks.backends.settings.capabilities import api_key, own_model_sampling, require_supported

_ALL = {
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 3,
    "min_p": 0.1,
    "presence_penalty": 0.1,
    "frequency_penalty": 0.1,
    "repetition_penalty": 1.1,
    "min_tokens": 3,
    "stop": ("x",),
    "json_schema": '{"type": "object"}',
}


@pytest.mark.parametrize("sampler", ["vllm", "server"])
def test_vllm_honours_every_setting_embedded_or_as_a_server(sampler: str) -> None:
    asked = Sampling.model_validate({"sampler": sampler, **_ALL})
    assert require_supported(asked) is asked


@pytest.mark.parametrize(
    ("sampler", "settings", "named"),
    [
        ("server", {"beam_width": 5}, "generate.beam_width. Samplers that do: vllm, transformers"),
        (
            "vllm",
            {"beam_width": 5, "repetition_penalty": 2.0},
            "generate.repetition_penalty. Samplers that do: transformers",
        ),
        ("transformers", {"json_schema": "{}"}, "generate.json_schema. Samplers that do: vllm, server"),
        (
            "ngram",
            {"stop": ["x"], "min_tokens": 1},
            "generate.min_tokens, generate.stop. Samplers that do: vllm, server, tr",
        ),
    ],
)
def test_what_a_sampler_cannot_honour_is_refused_by_name(sampler: str, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=f"Sampler '{sampler}' does not support {named}"):
        require_supported(Sampling.model_validate({"sampler": sampler, **settings}))


def test_a_setting_that_the_teachers_server_lacks_is_refused_for_any_sampler() -> None:
    with pytest.raises(ValueError, match=r"Sampler 'server' does not support generate\.beam_width"):
        require_supported(Sampling(sampler="vllm", teacher="somebody", beam_width=2))


def test_settings_at_their_default_are_nobodys_trouble() -> None:
    for sampler in ("vllm", "server", "transformers", "ngram"):
        asked = Sampling.model_validate({"sampler": sampler, "temperature": 0.5, "top_k": 4})
        assert require_supported(asked) == asked


def test_a_teacher_needs_a_server() -> None:
    with pytest.raises(ValueError, match=r"The teacher is 'tiny', but the site has neither resources\.server_urls"):
        api_key(Sampling(teacher="tiny"), Resources())
    with pytest.raises(ValueError, match=r"The teacher is 'tiny', but"):
        api_key(Sampling(teachers=("self", "tiny")), Resources())
    local = Resources.model_validate({"local_models": {"tiny": "somewhere"}})
    assert api_key(Sampling(teachers=("self", "tiny")), local) == ""


def test_the_api_key_is_read_from_the_sites_variable_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Resources(server_urls=("http://host",), api_key_env_var="OUR_KEY")
    monkeypatch.setenv("OUR_KEY", "sesame")
    assert api_key(Sampling(teacher="tiny"), site) == "sesame"
    assert api_key(Sampling(sampler="server"), site) == "sesame"
    assert api_key(Sampling(sampler="server"), Resources(api_key_env_var="OUR_KEY")) == ""
    monkeypatch.delenv("OUR_KEY")
    assert api_key(Sampling(sampler="vllm"), site) == ""
    with pytest.raises(ValueError, match="is OUR_KEY, which is not set in the environment"):
        api_key(Sampling(sampler="server"), site)


@pytest.mark.parametrize("sampler", ["ngram", "transformers", "gaussian-mixture"])
def test_settings_of_teachers_alone_need_no_support_by_the_models_own_sampler(sampler: str) -> None:
    schema = '{"type": "object"}'
    taught = Sampling.model_validate({"sampler": sampler, "teacher": "wise", "json_schema": schema})
    assert require_supported(taught) is taught
    assert own_model_sampling(taught) == Sampling.model_validate({"sampler": sampler})
    mixed = Sampling.model_validate({"sampler": sampler, "teachers": ("wise", "self"), "json_schema": schema})
    with pytest.raises(ValueError, match=f"Sampler '{sampler}' does not support generate.json_schema"):
        require_supported(mixed)


def test_a_models_own_sampler_keeps_what_it_supports() -> None:
    taught = Sampling.model_validate({"sampler": "vllm", "teacher": "wise", **_ALL})
    assert own_model_sampling(taught) == Sampling.model_validate({"sampler": "vllm", **_ALL})
