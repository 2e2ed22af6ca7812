import json
from typing import Any

import pytest
from pydantic import ValidationError

from tasks.backends import Resources, Sampling


def test_a_schema_can_be_a_table_or_text_and_its_order_stays() -> None:
    schema = {"type": "object", "properties": {"b": {"type": "string"}, "a": {"type": "integer"}}}
    as_table = Sampling.model_validate({"json_schema": schema})
    assert as_table == Sampling(json_schema=json.dumps(schema))
    assert list(json.loads(as_table.json_schema)["properties"]) == ["b", "a"]
    assert hash(as_table) == hash(Sampling(json_schema=json.dumps(schema)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"json_schema": "{"}, "json_schema is not valid JSON"),
        ({"json_schema": {"type": "rabbit"}}, "not a valid JSON schema: 'rabbit'"),
        ({"min_tokens": 9, "max_tokens": 8}, "min_tokens is 9, but max_tokens is 8"),
        ({"beam_width": 5, "temperature": 0.7, "stop": ["x"]}, "is deterministic. Leave out temperature, stop"),
        ({"teachers": ["one"]}, "must have two or more different names"),
        ({"teachers": ["one", "one"]}, "must have two or more different names"),
        ({"teachers": ["one", "two"], "teacher": "three"}, "excludes generate.teacher"),
        ({"teacher_routing": "reward"}, "Name them in generate.teachers"),
        (
            {"teachers": ["one", "two"], "teacher_routing": "reward", "teacher_map": {"a": "one"}},
            "teacher_map needs teacher_routing = 'fixed'",
        ),
        (
            {"teachers": ["one", "two"], "teacher_map": {"a": "three"}},
            "teacher_map has the teacher 'three', but the teachers are one, two",
        ),
        ({"stop": [""]}, "at least 1 character"),
        ({"repetition_penalty": 0}, "greater than 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Sampling.model_validate(settings)


def test_a_search_stands_alone() -> None:
    assert Sampling(beam_width=5, max_tokens=64).beam_width == 5


def test_settings_without_teacher_are_otherwise_the_same() -> None:
    taught = Sampling(teacher="somebody", temperature=0.5)
    assert taught.without_teacher == Sampling(temperature=0.5)


def test_addresses_are_one_a_server() -> None:
    site = Resources(server_urls=("http://a:8000/v1", "http://a:8000/", "https://b/openai/v1/"))
    assert site.server_urls == ("http://a:8000", "https://b/openai")


def test_an_address_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"'a:8000' is not a URL\. Write it as http://host:port"):
        Resources(server_urls=("a:8000",))


@pytest.mark.parametrize(
    ("setting", "url"),
    [
        ("server_urls", "http://me:sesame@host"),
        ("server_urls", "http://host/v1?api_key=sesame"),
        ("server_urls", "http://host/#sesame"),
        ("server_urls", "http://sesame@host"),
        ("ray", "ray://me:sesame@host:10001"),
        ("ray", "ray://host:10001?token=sesame"),
    ],
)
def test_a_key_in_a_url_is_refused_and_not_repeated(setting: str, url: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Resources.model_validate({setting: (url,) if setting == "server_urls" else url})
    (fault,) = refused.value.errors()
    assert "contains a password or a query" in fault["msg"]
    assert "sesame" not in fault["msg"]


def test_teachers_are_asked_one_by_one_and_own_is_the_model_of_the_generation() -> None:
    several = Sampling.model_validate({"teachers": ["self", "wise"], "teacher_map": {"a": "wise"}, "temperature": 0.5})
    assert several.model_names == ("", "wise")
    assert several.for_teacher("wise") == Sampling(teacher="wise", temperature=0.5)
    assert several.without_teacher == Sampling(temperature=0.5)
    assert several == Sampling.model_validate(several.model_dump(mode="json"))
    assert isinstance(hash(several), int)


def test_models_of_a_site_are_a_table_of_folders() -> None:
    site = Resources.model_validate({"local_models": {"wise": "/models/wise"}})
    assert site == Resources.model_validate(site.model_dump(mode="json"))
    assert site.local_model("wise") == "/models/wise"
    assert site.local_model("other") == ""


def test_a_teacher_with_a_local_name_is_sampled_here_unless_a_server_has_it() -> None:
    assert [Resources().local_model(name) for name in ("smollm2", "owner/model", "./mine", "wise")] == [
        *("smollm2", "owner/model", "./mine"),
        "",
    ]
    served = Resources.model_validate({"server_urls": ["http://host"], "local_models": {"small": "smollm2"}})
    assert [served.local_model(name) for name in ("smollm2", "owner/model", "small")] == ["", "", "smollm2"]
