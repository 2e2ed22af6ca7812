"""Sample with vLLM's offline engine, which stays loaded in this process between calls.

Every request carries its own seed, and on CPU the engine runs on one thread, so a completion does not depend on
batching, order or restarts. Before a model samples, it must reproduce the reference log-probability of its probe.

The weights of a model with the same configuration and tokenizer are loaded into the running engine. Then the output
head is packed again: vLLM's CPU kernels keep a packed copy, which reloading does not update if the head is tied to the
embeddings. An adapter is applied to an engine of its base model by a LoRARequest.

The engine is made for the longest sequence of the first call, and again if a later call needs a longer one.

The module must be imported in a process of its own: importing vLLM changes the environment and the global seeds.
"""

import gc
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from heirloom.errors import HeirloomError

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ["VLLM_NO_USAGE_STATS"] = "1"
os.environ["DO_NOT_TRACK"] = "1"

from pydantic import ValidationError
from transformers import PreTrainedTokenizerFast
from vllm import LLM, SamplingParams
from vllm.exceptions import VLLMClientError
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import BeamSearchParams, RequestOutputKind, StructuredOutputsParams

from tasks.backends.inference.engine_arguments import (
    PROBE_TOLERANCE,
    EngineLoad,
    context_length,
    engine_arguments,
    explain_engine_error,
    one_line,
)
from tasks.backends.inference.reasoning import reasoning_parser, separate_reasoning
from tasks.backends.machine import this_machine
from tasks.backends.models.adapters import adapter_base_path, vllm_max_lora_rank
from tasks.backends.models.chat_template import encode_prompts, end_plain_response, require_reasoning_parser
from tasks.backends.models.shape import read_shape, resolve_dtype
from tasks.backends.models.tokenization import EncodedPrompt
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling
from tasks.backends.types import Completion, Progress, Prompt

_PROBE = "probe.json"
_PROGRESS_INTERVAL_S = 0.1


class _LoadedEngine:
    """The engine of this process, and the model that it has loaded."""

    model: Path | None = None
    """None while no model is loaded and verified."""
    engine: LLM | None = None
    context = 0
    """Maximum sequence length of the engine, in tokens."""
    configuration: tuple[str, ...] | None = None
    """Another model can be loaded into the engine if its configuration is equal."""
    adapter: LoRARequest | None = None
    num_adapters = 0
    """Number of adapters so far; vLLM requires a distinct number for each."""


def sample(
    settings: Sampling, resources: Resources, model: Path, prompts: Sequence[Prompt], progress: Progress
) -> Iterator[list[Completion]]:
    """Yield completions in the order of the prompts, in batches as they become complete.

    Raises:
        HeirloomError: vLLM cannot load the model or refuses a request, or the model does not match its probe.
    """
    _require_model(model)
    if not prompts:
        return
    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    require_reasoning_parser(settings, tokenizer, prompts)
    prompt_ids = encode_prompts(tokenizer, prompts)
    num_tokens = max(map(len, prompt_ids.ids)) + settings.max_tokens
    engine = _load(settings, resources, model, num_tokens)
    encoded = prompt_ids.fit(engine.llm_engine.model_config.max_model_len)
    if settings.beam_width > 1:
        batches = _beam_search(engine, tokenizer, settings, encoded, resources.max_num_seqs)
    else:
        _add_requests(engine, settings, prompts, encoded, prompt_ids.stop_ids)
        finish = _Finisher(settings, tokenizer, prompts, has_template=prompt_ids.has_template)
        batches = _run_requests(engine, finish, len(prompts), progress)
    position = 0
    for batch in batches:
        cuts = [prompt.num_cut for prompt in encoded[position : position + len(batch)]]
        yield [
            replace(completion, num_cut_tokens=cut) if cut else completion
            for completion, cut in zip(batch, cuts, strict=True)
        ]
        position += len(batch)
        if settings.beam_width > 1:
            progress(position, len(prompts))


def _add_requests(
    engine: LLM,
    settings: Sampling,
    prompts: Sequence[Prompt],
    encoded: Sequence[EncodedPrompt],
    stop_ids: Sequence[int],
) -> None:
    """Queue one request per prompt, with the index of the prompt as its id; `stop_ids` end responses to messages."""
    for index, (prompt, tokens) in enumerate(zip(prompts, encoded, strict=True)):
        params = _sampling_params(settings, prompt.seed)
        if prompt.conversation:
            params.stop_token_ids = list(stop_ids)
        try:
            engine.llm_engine.add_request(
                str(index),
                {"prompt_token_ids": tokens.ids},
                params,
                lora_request=_LoadedEngine.adapter,
            )
        # Errors of the JSON schema are of the first type in older versions of vLLM, and of the second in newer ones.
        except (ValueError, VLLMClientError) as error:
            # The engine keeps queued requests, whose outputs would be taken for those of the next call.
            engine.llm_engine.abort_request([str(queued) for queued in range(index)])
            raise HeirloomError(
                f"vLLM refused a request: {one_line(_message(error))} Change `generate.json_schema` or the sampling "
                f"settings."
            ) from error


def _run_requests(engine: LLM, finish: "_Finisher", num_prompts: int, progress: Progress) -> Iterator[list[Completion]]:
    """Run the engine until all queued requests are finished, and yield their completions in order."""
    core = engine.llm_engine
    finished: dict[int, Completion] = {}
    next_index, reported_at = 0, time.monotonic()
    while core.has_unfinished_requests():
        for output in core.step():
            if output.finished:
                finished[int(output.request_id)] = finish(int(output.request_id), output)
        # A message to the parent process after every step would cost more time than it is worth.
        if time.monotonic() - reported_at < _PROGRESS_INTERVAL_S and core.has_unfinished_requests():
            continue
        ready = []
        while next_index in finished:
            ready.append(finished.pop(next_index))
            next_index += 1
        if ready:
            yield ready
        reported_at = time.monotonic()
        progress(next_index + len(finished), num_prompts)


def _require_model(model: Path) -> None:
    base = adapter_base_path(model)
    base_folder = Path(base) if base else model
    if not all(path.is_file() for path in (base_folder / "config.json", model / "tokenizer.json")):
        raise HeirloomError(
            f"{model} is not a model. Expected a folder with config.json and weights, and tokenizer.json."
        )


def _load(settings: Sampling, resources: Resources, model: Path, num_tokens: int) -> LLM:
    """Return an engine for sequences of a number of tokens that has loaded and verified the model."""
    loaded = _LoadedEngine
    base = adapter_base_path(model)
    base_folder = Path(base) if base else model
    shape = read_shape(base_folder)
    if (model / _PROBE).is_file():
        num_tokens = max(num_tokens, len(json.loads((model / _PROBE).read_text())["token_ids"]) + 1)
    if loaded.model == model and loaded.context >= context_length(num_tokens, shape):
        assert loaded.engine is not None
        return loaded.engine
    lora_rank = vllm_max_lora_rank(model) if base else 0
    dtype = resolve_dtype(settings.dtype, shape)
    # The engine decodes with its own tokenizer, so a model with another tokenizer needs another engine.
    tokenizer_hash = hashlib.sha256((model / "tokenizer.json").read_bytes()).hexdigest()
    # A base model is loaded once for all its adapters of equal rank.
    adapter_key = (str(base_folder), str(lora_rank)) if base else ()
    configuration = (
        *(dtype, settings.quantization, settings.speculative_config, (base_folder / "config.json").read_text()),
        *(tokenizer_hash, *adapter_key),
    )
    too_short = loaded.context < context_length(num_tokens, shape)
    if loaded.engine is None or loaded.configuration != configuration or too_short:
        _unload()
        load = EngineLoad(shape=shape, num_tokens=num_tokens, lora_rank=lora_rank)
        loaded.engine = _start_engine(load, base_folder, settings, resources)
        loaded.context = loaded.engine.llm_engine.model_config.max_model_len
    elif not base:
        _reload(loaded.engine, model)
    loaded.configuration, loaded.model, loaded.adapter = configuration, None, None
    if base:
        loaded.num_adapters += 1
        loaded.adapter = LoRARequest(str(model), loaded.num_adapters, str(model.resolve()))
    _verify_reference_logprob(loaded.engine, model, dtype)
    loaded.model = model
    return loaded.engine


def _start_engine(load: EngineLoad, model: Path, settings: Sampling, resources: Resources) -> LLM:
    machine = this_machine()
    if current_platform.is_cpu():
        machine = replace(machine, gpus=())
    arguments = engine_arguments(load, settings, resources, machine)
    # Standard output is the log of this process.
    print(f"vLLM loads {model} with {json.dumps(arguments)}", flush=True)  # noqa: T201
    try:
        return LLM(str(model), **arguments)
    except HeirloomError:
        raise
    # vLLM raises ValueErrors for what its configuration refuses, and RuntimeErrors if a process of the engine ends.
    except (ValueError, RuntimeError, VLLMClientError) as error:
        raise HeirloomError(explain_engine_error(_message(error), model)) from error


def _message(error: Exception) -> str:
    """Return the message of an error of vLLM; of a validation without its input, which is all of the configuration."""
    if isinstance(error, ValidationError):
        return "; ".join(detail["msg"].removeprefix("Value error, ") for detail in error.errors())
    return str(error) or type(error).__name__


def _reload(engine: LLM, model: Path) -> None:
    """Load the weights of another model with the same configuration into the engine."""
    _LoadedEngine.model = None
    engine.collective_rpc("reload_weights", kwargs={"weights_path": str(model.resolve())})
    # With several processes the function would be sent to them, and it does nothing on GPUs.
    if current_platform.is_cpu():
        engine.apply_model(_pack_head)
    engine.reset_prefix_cache()


def _pack_head(network: Any) -> None:  # noqa: ANN401  (a network of vLLM)
    """Pack the output head for vLLM's CPU kernels."""
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    if network.config.tie_word_embeddings:
        network.lm_head.weight = network.model.embed_tokens.weight
    dispatch_cpu_unquantized_gemm(network.lm_head, remove_weight=False)


def _unload() -> None:
    if _LoadedEngine.engine is not None:
        _LoadedEngine.engine.llm_engine.engine_core.shutdown()
        _LoadedEngine.model = _LoadedEngine.engine = None
        _LoadedEngine.context = 0
        gc.collect()


def _verify_reference_logprob(engine: LLM, model: Path, dtype: str) -> None:
    """Check that the engine computes the log-probability that training stored in the model's probe."""
    if not (model / _PROBE).is_file():
        return
    probe = json.loads((model / _PROBE).read_text())
    ids, expected = probe["token_ids"], probe["log_probability"]
    params = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False)
    (output,) = engine.generate([{"prompt_token_ids": ids}], params, use_tqdm=False, lora_request=_LoadedEngine.adapter)
    # The first token has no log-probability.
    measured = sum(entry[token].logprob for entry, token in zip(output.prompt_logprobs[1:], ids[1:], strict=True))
    if abs(measured - expected) > PROBE_TOLERANCE[dtype] * len(ids):
        _LoadedEngine.model = None
        raise HeirloomError(
            f"vLLM does not compute the probabilities of {model}: the log-probability of the model's probe is "
            f"{measured:.3f}, expected {expected:.3f}. Check that its files belong together, or use "
            '`generate.sampler = "transformers"`.'
        )


def _beam_search(
    engine: LLM,
    tokenizer: PreTrainedTokenizerFast,
    settings: Sampling,
    encoded: Sequence[EncodedPrompt],
    max_num_seqs: int,
) -> Iterator[list[Completion]]:
    """Yield the most likely completion that beam search finds for each prompt.

    As many prompts are searched together as have room for all their beams in the engine.
    """
    max_model_len = engine.llm_engine.model_config.max_model_len
    batch_size = max(1, max_num_seqs // settings.beam_width)
    for start in range(0, len(encoded), batch_size):
        batch = [prompt.ids for prompt in encoded[start : start + batch_size]]
        completions: dict[int, Completion] = {}
        # vLLM's beam search ignores the context length, and all prompts of one search have the same `max_tokens`. So
        # prompts are grouped by the number of tokens that fit.
        limits = [min(settings.max_tokens, max_model_len - len(ids)) for ids in batch]
        for max_tokens in set(limits):
            indices = [index for index, limit in enumerate(limits) if limit == max_tokens]
            params = BeamSearchParams(beam_width=settings.beam_width, max_tokens=max_tokens)
            prompts = [{"prompt_token_ids": batch[index]} for index in indices]
            outputs = engine.beam_search(prompts, params, lora_request=_LoadedEngine.adapter)
            for index, output in zip(indices, outputs, strict=True):
                completions[index] = _beam_completion(output.sequences[0], tokenizer, len(batch[index]))
        yield [completions[index] for index in range(len(batch))]


def _beam_completion(
    beam: Any,  # noqa: ANN401  (a sequence of vLLM's beam search)
    tokenizer: PreTrainedTokenizerFast,
    prompt_tokens: int,
) -> Completion:
    generated = beam.tokens[prompt_tokens:]
    return Completion(
        text=tokenizer.decode(generated, skip_special_tokens=True),
        finish_reason="stop" if generated[-1:] == [tokenizer.eos_token_id] else "length",
        prompt_tokens=prompt_tokens,
        completion_tokens=len(generated),
        sum_logprob=float(beam.cum_logprob),
    )


def _sampling_params(settings: Sampling, seed: int) -> SamplingParams:
    return SamplingParams(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k or -1,
        min_p=settings.min_p,
        presence_penalty=settings.presence_penalty,
        frequency_penalty=settings.frequency_penalty,
        repetition_penalty=settings.repetition_penalty,
        max_tokens=settings.max_tokens,
        min_tokens=settings.min_tokens,
        stop=list(settings.stop),
        structured_outputs=StructuredOutputsParams(json=settings.json_schema) if settings.json_schema else None,
        seed=seed,
        logprobs=0,
        # Otherwise every step builds an output for every sequence, none of which is used.
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


class _Finisher:
    """Make completions of the engine's outputs; reasoning is separated by the parser of the settings."""

    def __init__(
        self, settings: Sampling, tokenizer: PreTrainedTokenizerFast, prompts: Sequence[Prompt], *, has_template: bool
    ) -> None:
        self._prompts, self._has_template, self._tokenizer = prompts, has_template, tokenizer
        name = settings.reasoning_parser
        self._parser = reasoning_parser(name, tokenizer) if name else None

    def __call__(self, index: int, output: Any) -> Completion:  # noqa: ANN401  (vLLM's RequestOutput)
        completion = _completion(output)
        if self._parser:
            return separate_reasoning(self._parser, completion, output.outputs[0].token_ids)
        return completion if self._has_template else end_plain_response(self._prompts[index], completion)


def _completion(output: Any) -> Completion:  # noqa: ANN401  (vLLM's RequestOutput)
    (sequence,) = output.outputs
    return Completion(
        text=sequence.text,
        finish_reason=str(sequence.finish_reason),
        prompt_tokens=len(output.prompt_token_ids),
        completion_tokens=len(sequence.token_ids),
        sum_logprob=float(sequence.cumulative_logprob),
    )
