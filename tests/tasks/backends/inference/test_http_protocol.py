import asyncio

import aiohttp
import httpx
import pytest

from tasks.backends.inference.http_protocol import ClientConfig, TransientServerError, parse_response
from tests.support.openai_server import answering


def _client_config(key: str = "") -> ClientConfig:
    return ClientConfig(key, 1, 1, 1.0, 1.0)


def _answer(status: int, **content: object) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("POST", "http://host/v1/completions"), **content)  # type: ignore[arg-type]


def test_an_answer_is_its_json() -> None:
    assert parse_response(_answer(200, json={"a": 1}), _client_config()) == {"a": 1}


@pytest.mark.parametrize(("status", "busy"), [(408, True), (429, True), (503, True), (500, False), (502, False)])
def test_a_transient_error_is_distinguished_from_a_refusal(status: int, busy: bool) -> None:
    with pytest.raises(TransientServerError, match=str(status)) as trouble:
        parse_response(_answer(status, json={"error": {"message": "not now"}}), _client_config())
    assert trouble.value.busy is busy


def test_how_long_to_wait_is_taken_from_the_answer() -> None:
    with pytest.raises(TransientServerError) as trouble:
        parse_response(_answer(429, headers={"Retry-After": "7"}), _client_config())
    assert trouble.value.retry_after == 7
    with pytest.raises(TransientServerError) as trouble:
        parse_response(_answer(429, headers={"Retry-After": "Sat, 21 Nov 2026 07:28:00 GMT"}), _client_config())
    assert trouble.value.retry_after == 0


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 422])
def test_a_refusal_names_the_server_and_its_reason(status: int) -> None:
    with pytest.raises(ValueError, match=f"http://host/v1/completions refused the request: {status} it is so"):
        parse_response(_answer(status, json={"error": {"message": "it is so"}}), _client_config())


def test_a_good_status_with_something_else_than_json_is_trouble() -> None:
    with pytest.raises(TransientServerError, match="200 with a body that is not JSON"):
        parse_response(_answer(200, text="<html>"), _client_config())


def test_keys_are_redacted_from_server_messages_and_long_messages_are_cut() -> None:
    assert _client_config("sesame").redact_key("the key sesame\nis wrong") == "the key *** is wrong"
    assert len(_client_config().redact_key("x" * 5000)) == 300


def test_the_key_goes_out_as_a_bearer_token_and_only_if_there_is_one() -> None:
    assert _client_config("sesame").httpx_options()["headers"] == {"Authorization": "Bearer sesame"}
    assert _client_config().httpx_options()["headers"] == {}


@pytest.mark.processes
def test_a_server_on_this_machine_is_not_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with answering() as talk, httpx.Client(**_client_config().httpx_options()) as client:
        assert client.get(f"{talk.address}/v1/models").is_success
        with pytest.raises(httpx.ConnectError):
            client.get("http://elsewhere.example/v1/models")


@pytest.mark.processes
def test_many_requests_go_through_a_proxy_to_other_machines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")

    async def status(address: str) -> int:
        async with (
            _client_config("sesame").session(address) as session,
            session.post(f"{address}/v1/completions", json={"model": "tiny", "prompt": "p"}) as response,
        ):
            return response.status

    with answering() as talk:
        assert asyncio.run(status(talk.address)) == 200
        assert talk.keys == {"Bearer sesame"}
    with pytest.raises(aiohttp.ClientProxyConnectionError):
        asyncio.run(status("http://elsewhere.example"))


def test_numbers_that_are_no_json_are_read_as_python_reads_them() -> None:
    assert parse_response(_answer(200, content=b'{"logprob": -Infinity}'), _client_config()) == {
        "logprob": float("-inf")
    }
    with pytest.raises(TransientServerError, match="200 with a body that is not JSON"):
        parse_response(_answer(200, content=b"<html>"), _client_config())
