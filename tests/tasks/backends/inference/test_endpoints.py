import json
from pathlib import Path
from typing import Any

import pytest

from tasks.backends import Resources, Sampling
from tasks.backends.inference.endpoints import model_endpoint, teacher_endpoint
from tasks.backends.inference.http_protocol import ClientConfig
from tests.support.openai_server import Reply, answering

_CLIENT_CONFIG = ClientConfig("", 1, 1, 1.0, 0.5)


def _site(*servers: str) -> Resources:
    return Resources(server_urls=servers)


@pytest.mark.processes
def test_a_teacher_is_on_every_server_that_has_it() -> None:
    with answering(models=["tiny", "other"]) as one, answering(models=["tiny"]) as two:
        place = teacher_endpoint("tiny", _site(one.address, two.address), _CLIENT_CONFIG)
    assert (place.base_urls, place.model_name) == ((one.address, two.address), "tiny")
    assert not place.is_vllm


@pytest.mark.processes
def test_a_teacher_is_asked_only_where_it_is_served() -> None:
    with answering() as one, answering(models=["other", "third"]) as two:
        site = _site(one.address, two.address)
        assert teacher_endpoint("third", site, _CLIENT_CONFIG).base_urls == (two.address,)
        with pytest.raises(ValueError, match=rf"No server has the teacher 'wise': .*{two.address} serves other, third"):
            teacher_endpoint("wise", site, _CLIENT_CONFIG)


@pytest.mark.processes
@pytest.mark.parametrize("differing", [{"root": "/models/b"}, {"max_model_len": 99}])
def test_servers_with_different_models_of_one_name_are_refused(differing: dict[str, Any]) -> None:
    card = {"id": "tiny", "root": "/models/a", "max_model_len": 64}
    with answering(models=[card]) as one, answering(models=[card | differing]) as two:
        site = _site(one.address, two.address)
        with pytest.raises(ValueError, match=f"do not have the same model: {next(iter(differing))} is"):
            teacher_endpoint("tiny", site, _CLIENT_CONFIG)


@pytest.mark.processes
def test_an_unreachable_server_is_skipped_with_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    with answering() as one:
        place = teacher_endpoint("tiny", _site("http://127.0.0.1:9", one.address), _CLIENT_CONFIG)
    assert place.base_urls == (one.address,)
    assert "http://127.0.0.1:9 is not used: ConnectError" in capsys.readouterr().out


@pytest.mark.slow
def test_without_a_reachable_server_the_error_names_each_with_its_reason() -> None:
    with pytest.raises(ValueError, match=r"No server responded for 0\.5 s: http://127\.0\.0\.1:9: ConnectError"):
        teacher_endpoint("tiny", _site("http://127.0.0.1:9"), _CLIENT_CONFIG)


@pytest.mark.processes
def test_something_else_than_a_list_of_models_is_refused() -> None:
    with answering(models=[{"name": "no id"}]) as talk, pytest.raises(ValueError, match="returned no list of models"):
        teacher_endpoint("tiny", _site(talk.address), _CLIENT_CONFIG)


def _model(folder: Path, name: str = "config.json", content: object = None) -> Path:
    (folder / name).write_text(json.dumps(content or {}))
    return folder


@pytest.mark.processes
def test_a_whole_model_is_found_by_its_folder(tmp_path: Path) -> None:
    card = {"id": "ours", "root": str(_model(tmp_path)), "max_model_len": 64, "owned_by": "vllm"}
    with answering(models=["other", card]) as talk:
        place = model_endpoint(tmp_path, Sampling(), _site(talk.address), _CLIENT_CONFIG)
    assert (place.model_name, place.model_card["max_model_len"], place.is_vllm) == ("ours", 64, True)


@pytest.mark.processes
def test_a_whole_model_that_is_not_served_is_refused(tmp_path: Path) -> None:
    with (
        answering() as talk,
        pytest.raises(ValueError, match=r"serves tiny, not the model .*Remove `resources\.server_urls`"),
    ):
        model_endpoint(_model(tmp_path), Sampling(), _site(talk.address), _CLIENT_CONFIG)


@pytest.mark.processes
def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"is not a model\. Expected a folder with config\.json or adapter_config\.json"
    ):
        model_endpoint(tmp_path, Sampling(), _site("http://127.0.0.1:9"), _CLIENT_CONFIG)


@pytest.mark.processes
def test_a_server_that_does_not_take_adapters_is_refused_with_its_words(tmp_path: Path) -> None:
    _model(tmp_path, "adapter_config.json", {"base_model_name_or_path": "base"})
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    with (
        answering(lambda *_: Reply(404, {"detail": "Not Found"})) as talk,
        pytest.raises(ValueError, match=r"did not load the adapter .*404.*Not Found.*--enable-lora"),
    ):
        model_endpoint(tmp_path, Sampling(), _site(talk.address), _CLIENT_CONFIG)
    assert talk.bodies[0]["lora_path"] == str(tmp_path)
    assert talk.bodies[0]["lora_name"].startswith("heirloom-")
