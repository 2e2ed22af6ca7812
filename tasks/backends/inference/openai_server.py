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

from tasks.backends.inference.endpoints import Place, of_model, of_teacher
from tasks.backends.inference.http_client import answers
from tasks.backends.inference.http_protocol import Manners, parsed
from tasks.backends.models.adapters import adapter_base
from tasks.backends.settings.capabilities import servers_key
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
_BEGIN_WITH = 32
"""Requests in flight at first at a server whose size is not known."""


def sample(
    settings: Sampling, resources: Resources, model: Path, prompts: Sequence[Prompt], progress: Progress
) -> Iterator[list[Completion]]:
    """Yield completions in the order of the prompts, in lists as they become complete.

    Raises:
        ValueError: no server can speak for the model, one refused a request, or none answered in time.
    """
    manners = _manners(settings, resources)
    if settings.teacher:
        place = of_teacher(settings.teacher, resources, manners)
        asked = [_request(settings, place, prompt.text, prompt.seed) for prompt in prompts]
    else:
        place = of_model(model, settings, resources, manners)
        _check_probe(place, model, manners, settings.dtype)
        asked = _spelled(settings, place, model, prompts)
    manners, done = replace(manners, ended=place.ended), 0
    path = _CHAT if _chats(settings) else _COMPLETIONS
    for ready in answers(place.servers, path, asked, manners, lambda said: _completion(said, settings)):
        yield ready
        done += len(ready)
        progress(done, len(prompts))


def _manners(settings: Sampling, resources: Resources) -> Manners:
    started_here = not settings.teacher and not resources.servers
    most = resources.max_num_seqs if started_here else resources.requests_in_flight
    return Manners(
        key=servers_key(settings, resources),
        begin_with=most if started_here else min(most, _BEGIN_WITH),
        at_most=most,
        request_seconds=resources.request_seconds,
        patience_seconds=resources.patience_seconds,
    )


def _spelled(settings: Sampling, place: Place, model: Path, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """Requests in tokens: the begin token and the prompt, with room for one more, and never beyond the context."""
    # Takes seconds, and a teacher does without.
    from transformers import PreTrainedTokenizerFast

    folder = model if (model / "tokenizer.json").is_file() else Path(adapter_base(model) or model)
    tokenizer, longest = PreTrainedTokenizerFast.from_pretrained(folder), int(place.card["max_model_len"])
    texts, asked = [prompt.text for prompt in prompts], []
    spelled = tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
    for prompt, spelling in zip(prompts, spelled, strict=True):
        ids = [tokenizer.bos_token_id, *spelling][: longest - 1]
        room = min(settings.max_tokens, longest - len(ids))
        fitting = settings.model_copy(update={"max_tokens": room, "min_tokens": min(settings.min_tokens, room)})
        asked.append(_request(fitting, place, ids, prompt.seed))
    return asked


def _request(settings: Sampling, place: Place, prompt: str | list[int], seed: int) -> dict[str, Any]:
    said = settings.model_dump(mode="json")
    unlike = {name for name in said if said[name] != Sampling.model_fields[name].get_default()}
    sent = {name: said[name] for name in (*_ALWAYS, *(name for name in _KNOWN_TO_ALL if said[name]))}
    # vLLM is told all of it, or it takes what is left out from a file of the model.
    sent |= {name: said[name] for name in _KNOWN_TO_VLLM if place.is_vllm or name in unlike}
    if settings.json_schema:
        form = {"name": "completion", "schema": json.loads(settings.json_schema), "strict": True}
        sent["response_format"] = {"type": "json_schema", "json_schema": form}
    if _chats(settings):
        # Servers of models that think refuse to be asked for log-probabilities.
        sent |= {"logprobs": True} if place.is_vllm else {}
        return {"model": place.name, "messages": [{"role": "user", "content": prompt}], "seed": seed, **sent}
    return {"model": place.name, "prompt": prompt, "seed": seed, "logprobs": 0 if place.is_vllm else 1, **sent}


def _chats(settings: Sampling) -> bool:
    return bool(settings.teacher) and settings.teacher_api == "chat"


def _completion(said: Any, settings: Sampling) -> Completion:  # noqa: ANN401  (JSON from outside)
    (choice,), teacher = said["choices"], settings.teacher
    if choice["finish_reason"] in (None, "abort", "error"):
        raise ValueError(f"the text was broken off: {choice['finish_reason']}")
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
        log_probability=float(sum(logs)) if logs else None,
        teacher=who if teacher else "",
    )


def _check_probe(place: Place, model: Path, manners: Manners, dtype: str) -> None:
    if not (model / _PROBE).is_file():
        return
    probe = json.loads((model / _PROBE).read_text())
    ids, expected = probe["token_ids"], probe["log_probability"]
    body = {"model": place.name, "prompt": ids, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
    with httpx.Client(**{**manners.opener(), "timeout": manners.request_seconds}) as client:
        for server in place.servers:
            (choice,) = parsed(client.post(server + _COMPLETIONS, json=body), manners)["choices"]
            told = zip(choice["prompt_logprobs"][1:], ids[1:], strict=True)
            found = sum(entry[str(token)]["logprob"] for entry, token in told)
            if abs(found - expected) > _TOLERANCE[dtype] * len(ids):
                raise ValueError(
                    f"{server} does not speak for {model}: its probe has log-probability {expected:.3f}, the server says {found:.3f}"
                )
