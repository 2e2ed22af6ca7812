"""Texts from OpenAI-compatible servers: one that is started here for the model, or those that the site names.

Every prompt is a request of its own with a seed of its own. For a model of the run, tokens are sent and not text, so that a server
continues what the embedded engine would; and it must reproduce the model's probe before it speaks. A teacher is sent text.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from heirloom.errors import HeirloomError
from tasks.backends.inference.endpoints import ModelEndpoint, model_endpoint, teacher_endpoint
from tasks.backends.inference.http_client import stream_responses
from tasks.backends.inference.http_protocol import ClientConfig, parse_response
from tasks.backends.models.adapters import adapter_base_path
from tasks.backends.settings.capabilities import api_key
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling
from tasks.backends.types import Completion, Progress, Prompt

_COMPLETIONS, _CHAT = "/v1/completions", "/v1/chat/completions"
_PROBE = "probe.json"
_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05}
"""Largest difference to the probe, in nats a token."""
_ALWAYS = ("temperature", "top_p", "max_tokens")
_KNOWN_TO_ALL = ("presence_penalty", "frequency_penalty", "stop")
_KNOWN_TO_VLLM = ("top_k", "min_p", "repetition_penalty", "min_tokens")
_INITIAL_CONCURRENCY = 32
"""Requests in flight at first at a server whose size is not known."""


def sample(
    settings: Sampling, resources: Resources, model: Path, prompts: Sequence[Prompt], progress: Progress
) -> Iterator[list[Completion]]:
    """Yield completions in the order of the prompts, in lists as they become complete.

    Raises:
        HeirloomError: no server can speak for the model, one refused a request, or none answered in time.
    """
    client_config = _client_config(settings, resources)
    if settings.teacher:
        endpoint = teacher_endpoint(settings.teacher, resources, client_config)
        asked = [_request(settings, endpoint, prompt.text, prompt.seed) for prompt in prompts]
    else:
        endpoint = model_endpoint(model, settings, resources, client_config)
        _verify_reference_logprob(endpoint, model, client_config, settings.dtype)
        asked = _spelled(settings, endpoint, model, prompts)
    client_config, done = replace(client_config, exit_reason=endpoint.exit_reason), 0
    path = _CHAT if _chats(settings) else _COMPLETIONS
    for ready in stream_responses(
        endpoint.base_urls, path, asked, client_config, lambda said: _completion(said, settings)
    ):
        yield ready
        done += len(ready)
        progress(done, len(prompts))


def _client_config(settings: Sampling, resources: Resources) -> ClientConfig:
    started_here = not settings.teacher and not resources.server_urls
    most = resources.max_num_seqs if started_here else resources.max_concurrent_requests
    return ClientConfig(
        key=api_key(settings, resources),
        initial_concurrency=most if started_here else min(most, _INITIAL_CONCURRENCY),
        max_concurrency=most,
        request_timeout_s=resources.request_timeout_s,
        server_unavailable_timeout_s=resources.server_unavailable_timeout_s,
    )


def _spelled(
    settings: Sampling, endpoint: ModelEndpoint, model: Path, prompts: Sequence[Prompt]
) -> list[dict[str, Any]]:
    """Requests in tokens: the begin token and the prompt, with room for one more, and never beyond the context."""
    # Takes seconds, and a teacher does without.
    from transformers import PreTrainedTokenizerFast

    folder = model if (model / "tokenizer.json").is_file() else Path(adapter_base_path(model) or model)
    tokenizer, longest = PreTrainedTokenizerFast.from_pretrained(folder), int(endpoint.model_card["max_model_len"])
    texts, asked = [prompt.text for prompt in prompts], []
    spelled = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    for prompt, spelling in zip(prompts, spelled, strict=True):
        ids = [tokenizer.bos_token_id, *spelling][: longest - 1]
        room = min(settings.max_tokens, longest - len(ids))
        fitting = settings.model_copy(update={"max_tokens": room, "min_tokens": min(settings.min_tokens, room)})
        asked.append(_request(fitting, endpoint, ids, prompt.seed))
    return asked


def _request(settings: Sampling, endpoint: ModelEndpoint, prompt: str | list[int], seed: int) -> dict[str, Any]:
    said = settings.model_dump(mode="json")
    unlike = {name for name in said if said[name] != Sampling.model_fields[name].get_default()}
    sent = {name: said[name] for name in (*_ALWAYS, *(name for name in _KNOWN_TO_ALL if said[name]))}
    # vLLM is told all of it, or it takes what is left out from a file of the model.
    sent |= {name: said[name] for name in _KNOWN_TO_VLLM if endpoint.is_vllm or name in unlike}
    if settings.json_schema:
        form = {"name": "completion", "schema": json.loads(settings.json_schema), "strict": True}
        sent["response_format"] = {"type": "json_schema", "json_schema": form}
    if _chats(settings):
        # Servers of models that think refuse to be asked for log-probabilities.
        sent |= {"logprobs": True} if endpoint.is_vllm else {}
        return {"model": endpoint.model_name, "messages": [{"role": "user", "content": prompt}], "seed": seed, **sent}
    return {
        "model": endpoint.model_name,
        "prompt": prompt,
        "seed": seed,
        "logprobs": 0 if endpoint.is_vllm else 1,
        **sent,
    }


def _chats(settings: Sampling) -> bool:
    return bool(settings.teacher) and settings.teacher_api == "chat"


def _completion(said: Any, settings: Sampling) -> Completion:  # noqa: ANN401  (JSON from outside)
    (choice,), teacher = said["choices"], settings.teacher
    if choice["finish_reason"] in (None, "abort", "error"):
        raise HeirloomError(f"the text was broken off: {choice['finish_reason']}")
    found = choice.get("logprobs") or {}
    if _chats(settings):
        # One that was cut while it was still thinking has said nothing.
        cut = choice["finish_reason"] in ("length", "content_filter")
        text = choice["message"]["content"] or ("" if cut else choice["message"]["content"])
        logs = [token["logprob"] for token in found.get("content") or ()]
    else:
        text, logs = choice["text"], found.get("token_logprobs") or []
    if not isinstance(text, str):
        raise TypeError(f"the text is {text!r}")
    who = ":".join(filter(None, (str(said.get("model") or teacher), said.get("system_fingerprint"))))
    return Completion(
        text=text,
        finish_reason=str(choice["finish_reason"]),
        prompt_tokens=int(said["usage"]["prompt_tokens"]),
        completion_tokens=int(said["usage"]["completion_tokens"]),
        sum_logprob=float(sum(logs)) if logs else None,
        teacher=who if teacher else "",
    )


def _verify_reference_logprob(endpoint: ModelEndpoint, model: Path, client_config: ClientConfig, dtype: str) -> None:
    if not (model / _PROBE).is_file():
        return
    probe = json.loads((model / _PROBE).read_text())
    ids, expected = probe["token_ids"], probe["log_probability"]
    body = {"model": endpoint.model_name, "prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    with httpx.Client(**{**client_config.httpx_options(), "timeout": client_config.request_timeout_s}) as client:
        for server in endpoint.base_urls:
            (choice,) = parse_response(client.post(server + _COMPLETIONS, json=body), client_config)["choices"]
            told = zip(choice["prompt_logprobs"][1:], ids[1:], strict=True)
            found = sum(entry[str(token)]["logprob"] for entry, token in told)
            if abs(found - expected) > _TOLERANCE[dtype] * len(ids):
                raise HeirloomError(
                    f"{server} does not speak for {model}: its probe has log-probability {expected:.3f}, the server says {found:.3f}"
                )
