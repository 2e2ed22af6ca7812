"""Sample from OpenAI-compatible servers: those that the site names, or one that is started for the model.

Every prompt is one request with its own seed. For a model of the run, prompts are sent as tokens, so that a server gets
the same input as the embedded engine. Before sampling starts, every server must reproduce the reference log-probability
of the model's probe. Prompts to a teacher are sent as text.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from heirloom.chat import message_text, parse_conversation, to_openai
from heirloom.errors import HeirloomError
from tasks.backends.inference.endpoints import ModelEndpoint, model_endpoint, teacher_endpoint
from tasks.backends.inference.engine_arguments import PROBE_TOLERANCE
from tasks.backends.inference.http_client import stream_responses
from tasks.backends.inference.http_protocol import ClientConfig, parse_response
from tasks.backends.inference.reasoning import reasoning_parser, separate_reasoning
from tasks.backends.models.adapters import adapter_base_path
from tasks.backends.models.chat_template import (
    EncodedPrompts,
    encode_prompts,
    end_plain_response,
    require_reasoning_parser,
)
from tasks.backends.models.shape import read_shape, resolve_dtype
from tasks.backends.settings.capabilities import api_key
from tasks.backends.settings.json_schema import is_closed
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling
from tasks.backends.types import Completion, Progress, Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_COMPLETIONS, _CHAT = "/v1/completions", "/v1/chat/completions"
_PROBE = "probe.json"
_ALWAYS_SENT = ("temperature", "top_p", "max_tokens")
_SENT_IF_SET = ("presence_penalty", "frequency_penalty", "stop")
_VLLM_SETTINGS = ("top_k", "min_p", "repetition_penalty", "min_tokens")
"""Settings outside the OpenAI API: always sent to vLLM; to other servers only if they differ from the defaults."""
_INITIAL_CONCURRENCY = 32
"""Requests in flight at the start at a server of unknown capacity."""


def sample(
    settings: Sampling, resources: Resources, model: Path, prompts: Sequence[Prompt], progress: Progress
) -> Iterator[list[Completion]]:
    """Yield completions in the order of the prompts, in lists as they become complete.

    Raises:
        HeirloomError: no server has the model, one refused a request, or none responded in time.
    """
    client_config = _client_config(settings, resources)
    cuts: list[int] = []
    finish: Finish = _unchanged
    if settings.teacher:
        endpoint = teacher_endpoint(settings.teacher, resources, client_config)
        settings = _resolve_api(settings, prompts)
        bodies = [_request_body(settings, endpoint, prompt, prompt.text) for prompt in prompts]
    else:
        endpoint = model_endpoint(model, settings, resources, client_config)
        folder = Path(adapter_base_path(model) or model)
        # The base of an adapter can be a name on the Hub, whose data type the server alone knows.
        dtype = resolve_dtype(settings.dtype, read_shape(folder)) if folder.is_dir() else "bfloat16"
        _verify_reference_logprob(endpoint, model, client_config, dtype)
        tokenizer = _tokenizer(model)
        require_reasoning_parser(settings, tokenizer, prompts)
        encoded = encode_prompts(tokenizer, prompts)
        cuts = [tokens.num_cut for tokens in encoded.fit(int(endpoint.model_card["max_model_len"]))]
        bodies = _token_requests(settings, endpoint, prompts, encoded)
        finish = _finish(settings, tokenizer, encoded)
    client_config = replace(client_config, exit_reason=endpoint.exit_reason)
    path = _CHAT if _uses_chat(settings) else _COMPLETIONS
    done = 0
    for completions in stream_responses(
        endpoint.base_urls, path, bodies, client_config, lambda response: _completion(response, settings)
    ):
        ready = [finish(prompt, each) for prompt, each in zip(prompts[done:], completions, strict=False)]
        for index, cut in enumerate(cuts[done : done + len(ready)]):
            if cut:
                ready[index] = replace(ready[index], num_cut_tokens=cut)
        yield ready
        done += len(ready)
        progress(done, len(prompts))


def _client_config(settings: Sampling, resources: Resources) -> ClientConfig:
    started_here = not settings.teacher and not resources.server_urls
    max_concurrency = resources.max_num_seqs if started_here else resources.max_concurrent_requests
    return ClientConfig(
        key=api_key(settings, resources),
        initial_concurrency=max_concurrency if started_here else min(max_concurrency, _INITIAL_CONCURRENCY),
        max_concurrency=max_concurrency,
        request_timeout_s=resources.request_timeout_s,
        server_unavailable_timeout_s=resources.server_unavailable_timeout_s,
    )


def _tokenizer(model: Path) -> "PreTrainedTokenizerFast":
    # The import takes seconds, and sampling from a teacher does not need it.
    from transformers import PreTrainedTokenizerFast

    folder = model if (model / "tokenizer.json").is_file() else Path(adapter_base_path(model) or model)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def _token_requests(
    settings: Sampling, endpoint: ModelEndpoint, prompts: Sequence[Prompt], encoded: EncodedPrompts
) -> list[dict[str, Any]]:
    """Return request bodies in tokens."""
    max_model_len = int(endpoint.model_card["max_model_len"])
    bodies = []
    for prompt, tokens in zip(prompts, encoded.fit(max_model_len), strict=True):
        # Servers refuse a request whose prompt and `max_tokens` exceed the context together.
        max_tokens = min(settings.max_tokens, max_model_len - len(tokens.ids))
        limits = {"max_tokens": max_tokens, "min_tokens": min(settings.min_tokens, max_tokens)}
        body = _request_body(settings.model_copy(update=limits), endpoint, prompt, tokens.ids)
        if prompt.conversation and encoded.stop_ids:
            body["stop_token_ids"] = encoded.stop_ids
        bodies.append(body)
    return bodies


def _finish(settings: Sampling, tokenizer: "PreTrainedTokenizerFast", encoded: EncodedPrompts) -> "Finish":
    """Return what to do with the completions of a model of the run."""
    if settings.reasoning_parser:
        parser = reasoning_parser(settings.reasoning_parser, tokenizer)
        return lambda _, completion: separate_reasoning(
            parser, completion, tokenizer(completion.text, add_special_tokens=False)["input_ids"]
        )
    return _unchanged if encoded.has_template else end_plain_response


Finish = Callable[[Prompt, Completion], Completion]


def _unchanged(_: Prompt, completion: Completion) -> Completion:
    return completion


def _resolve_api(settings: Sampling, prompts: Sequence[Prompt]) -> Sampling:
    if settings.teacher_api != "auto":
        return settings
    api = "chat" if any(prompt.conversation for prompt in prompts) else "completions"
    return settings.model_copy(update={"teacher_api": api})


def _request_body(
    settings: Sampling, endpoint: ModelEndpoint, prompt: Prompt, content: str | list[int]
) -> dict[str, Any]:
    """Return the body of a request; `content` is the prompt as text or as tokens."""
    values = settings.model_dump(mode="json")
    parameters = {name: values[name] for name in _ALWAYS_SENT}
    parameters |= {name: values[name] for name in _SENT_IF_SET if values[name]}
    for name in _VLLM_SETTINGS:
        # vLLM would take a setting that is not sent from the model's generation_config.json.
        if endpoint.is_vllm or values[name] != Sampling.model_fields[name].get_default():
            parameters[name] = values[name]
    if settings.json_schema:
        schema = json.loads(settings.json_schema)
        parameters["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "completion", "schema": schema, "strict": is_closed(schema)},
        }
    if _uses_chat(settings):
        # Other servers refuse to return log-probabilities of reasoning models.
        if endpoint.is_vllm:
            parameters["logprobs"] = True
        messages = [{"role": "user", "content": content}]
        if prompt.conversation:
            messages = to_openai(prompt.conversation.messages)
            if prompt.conversation.tools:
                parameters["tools"] = list(prompt.conversation.tools)
        return {"model": endpoint.model_name, "messages": messages, "seed": prompt.seed, **parameters}
    return {
        "model": endpoint.model_name,
        "prompt": content,
        "seed": prompt.seed,
        "logprobs": 0 if endpoint.is_vllm else 1,
        **parameters,
    }


def _uses_chat(settings: Sampling) -> bool:
    return bool(settings.teacher) and settings.teacher_api == "chat"


def _completion(response: Any, settings: Sampling) -> Completion:  # noqa: ANN401  (JSON from outside)
    """Convert the JSON of a response. An exception marks the response as unusable, and the request is sent again."""
    (choice,) = response["choices"]
    if choice["finish_reason"] in (None, "abort", "error"):
        raise ValueError(f"generation was interrupted: finish_reason is {choice['finish_reason']}")
    logprobs = choice.get("logprobs") or {}
    reasoning = ""
    if _uses_chat(settings):
        message = choice["message"]
        text = message["content"]
        calls = message.get("tool_calls") or []
        # A response that is cut during the reasoning has no content.
        if not text and (calls or choice["finish_reason"] in ("length", "content_filter")):
            text = ""
        reasoning = message.get("reasoning_content") or message.get("reasoning") or ""
        if calls:
            text = _with_calls(text, calls)
        token_logprobs = [token["logprob"] for token in logprobs.get("content") or ()]
    else:
        text, token_logprobs = choice["text"], logprobs.get("token_logprobs") or []
    if not isinstance(text, str) or not isinstance(reasoning, str):
        raise TypeError(f"the text is {text!r}, the reasoning is {reasoning!r}")
    details = response["usage"].get("completion_tokens_details") or {}
    teacher = ""
    if settings.teacher:
        model_name, fingerprint = str(response.get("model") or settings.teacher), response.get("system_fingerprint")
        teacher = f"{model_name}:{fingerprint}" if fingerprint else model_name
    return Completion(
        text=text,
        finish_reason=str(choice["finish_reason"]),
        prompt_tokens=int(response["usage"]["prompt_tokens"]),
        completion_tokens=int(response["usage"]["completion_tokens"]),
        sum_logprob=float(sum(token_logprobs)) if token_logprobs else None,
        teacher=teacher,
        reasoning=reasoning,
        reasoning_tokens=int(details.get("reasoning_tokens") or 0),
    )


def _with_calls(text: str, calls: Any) -> str:  # noqa: ANN401  (JSON from outside)
    """Return the text of a response with its tool calls, as the response of a model is read.

    Raises:
        ValueError: a call is malformed.
    """
    message = [{"role": "user", "content": "."}, {"role": "assistant", "content": text, "tool_calls": calls}]
    parsed = parse_conversation(message)
    if isinstance(parsed, str):
        raise ValueError(parsed)
    return message_text(parsed.messages[-1])


def _verify_reference_logprob(endpoint: ModelEndpoint, model: Path, client_config: ClientConfig, dtype: str) -> None:
    """Check that every server computes the log-probability that training stored in the model's probe."""
    if not (model / _PROBE).is_file():
        return
    probe = json.loads((model / _PROBE).read_text())
    ids, expected = probe["token_ids"], probe["log_probability"]
    body = {"model": endpoint.model_name, "prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    with httpx.Client(**{**client_config.httpx_options(), "timeout": client_config.request_timeout_s}) as client:
        for server in endpoint.base_urls:
            (choice,) = parse_response(client.post(server + _COMPLETIONS, json=body), client_config)["choices"]
            # The first token has no log-probability.
            pairs = zip(choice["prompt_logprobs"][1:], ids[1:], strict=True)
            measured = sum(entry[str(token)]["logprob"] for entry, token in pairs)
            if abs(measured - expected) > PROBE_TOLERANCE[dtype] * len(ids):
                raise HeirloomError(
                    f"{server} does not serve the weights of {model}: the log-probability of the model's probe is "
                    f"{measured:.3f}, expected {expected:.3f}. Restart the server with this model."
                )
