"""Sample with vLLM's offline engine, which stays loaded in this process between calls.

Every request carries its own seed, and on CPU the engine runs on one thread, so a completion does not depend on
batching, order or restarts. Before a model samples, it must reproduce the reference log-probability of its probe.

The weights of a model with the same configuration and tokenizer are loaded into the running engine. Then the output
head is packed again: vLLM's CPU kernels keep a packed copy, which reloading does not update if the head is tied to the
embeddings. An adapter is applied to an engine of its base model by a LoRARequest.

The module must be imported in a process of its own: importing vLLM changes the environment and the global seeds.
"""

import gc
import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
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

from tasks.backends.models.adapters import adapter_base_path, vllm_max_lora_rank
from tasks.backends.models.tokenization import tokenize_texts
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling
from tasks.backends.types import Completion, Progress, Prompt

_PROBE = "probe.json"
_PROGRESS_INTERVAL_S = 0.1
_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05}
"""Maximum difference from the probe's log-probability, in nats per token."""


class _LoadedEngine:
    """The engine of this process, and the model and tokenizer that it has loaded."""

    model: Path | None = None
    """None while no model is loaded and verified."""
    engine: LLM | None = None
    tokenizer: PreTrainedTokenizerFast | None = None
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
    engine, tokenizer = _load(settings, resources, model)
    if not prompts:
        return
    max_model_len = engine.llm_engine.model_config.max_model_len
    texts = tokenize_texts(tokenizer, [prompt.text for prompt in prompts])
    # Tokenizers of some models from the hub have no begin token.
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    input_ids = [[*begin, *ids][: max_model_len - 1] for ids in texts]
    if settings.beam_width > 1:
        num_done = 0
        for completions in _beam_search(engine, tokenizer, settings, input_ids, resources.max_num_seqs):
            yield completions
            num_done += len(completions)
            progress(num_done, len(prompts))
        return
    _add_requests(engine, settings, prompts, input_ids)
    yield from _run_requests(engine, len(prompts), progress)


def _add_requests(engine: LLM, settings: Sampling, prompts: Sequence[Prompt], input_ids: Sequence[list[int]]) -> None:
    """Queue one request per prompt, with the index of the prompt as its id."""
    for index, (prompt, ids) in enumerate(zip(prompts, input_ids, strict=True)):
        try:
            engine.llm_engine.add_request(
                str(index),
                {"prompt_token_ids": ids},
                _sampling_params(settings, prompt.seed),
                lora_request=_LoadedEngine.adapter,
            )
        # Errors of the JSON schema are of the first type in older versions of vLLM, and of the second in newer ones.
        except (ValueError, VLLMClientError) as error:
            # The engine keeps queued requests, whose outputs would be taken for those of the next call.
            engine.llm_engine.abort_request([str(queued) for queued in range(index)])
            raise HeirloomError(
                f"vLLM refused a request: {_one_line(error)} Change `generate.json_schema` or the sampling settings."
            ) from error


def _run_requests(engine: LLM, num_prompts: int, progress: Progress) -> Iterator[list[Completion]]:
    """Run the engine until all queued requests are finished, and yield their completions in order."""
    core = engine.llm_engine
    finished: dict[int, Completion] = {}
    next_index, reported_at = 0, time.monotonic()
    while core.has_unfinished_requests():
        for output in core.step():
            if output.finished:
                finished[int(output.request_id)] = _completion(output)
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


def _load(settings: Sampling, resources: Resources, model: Path) -> tuple[LLM, PreTrainedTokenizerFast]:
    """Return an engine that has loaded and verified the model, and the model's tokenizer."""
    base = adapter_base_path(model)
    base_folder = Path(base) if base else model
    if not all(path.is_file() for path in (base_folder / "config.json", model / "tokenizer.json")):
        raise HeirloomError(
            f"{model} is not a model. Expected a folder with config.json and weights, and tokenizer.json."
        )
    if _LoadedEngine.model != model:
        max_lora_rank = vllm_max_lora_rank(model) if base else 0
        # The engine decodes with its own tokenizer, so a model with another tokenizer needs another engine.
        tokenizer_hash = hashlib.sha256((model / "tokenizer.json").read_bytes()).hexdigest()
        # A base model is loaded once for all its adapters of equal rank.
        adapter_key = (str(base_folder), str(max_lora_rank)) if base else ()
        configuration = (settings.dtype, (base_folder / "config.json").read_text(), tokenizer_hash, *adapter_key)
        if _LoadedEngine.engine is None or _LoadedEngine.configuration != configuration:
            _unload()
            _LoadedEngine.engine = _start_engine(settings, resources, base_folder, max_lora_rank)
        elif not base:
            _reload(_LoadedEngine.engine, model)
        _LoadedEngine.configuration, _LoadedEngine.model, _LoadedEngine.adapter = configuration, None, None
        if base:
            _LoadedEngine.num_adapters += 1
            _LoadedEngine.adapter = LoRARequest(str(model), _LoadedEngine.num_adapters, str(model.resolve()))
        _LoadedEngine.tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
        _verify_reference_logprob(_LoadedEngine.engine, model, settings.dtype)
        _LoadedEngine.model = model
    assert _LoadedEngine.engine is not None
    assert _LoadedEngine.tokenizer is not None
    return _LoadedEngine.engine, _LoadedEngine.tokenizer


def _start_engine(settings: Sampling, resources: Resources, model: Path, max_lora_rank: int) -> LLM:
    lora = {"enable_lora": True, "max_lora_rank": max_lora_rank} if max_lora_rank else {}
    try:
        return LLM(
            str(model),
            dtype=settings.dtype,
            enforce_eager=True,
            seed=0,
            kv_cache_memory_bytes=resources.kv_cache_mib << 20,
            block_size=32,
            max_num_seqs=resources.max_num_seqs,
            # On CPU, a request with a seed whose prompt is split into chunks crashes the engine.
            enable_chunked_prefill=False,
            disable_log_stats=True,
            **lora,
            # A small model may generate white space without end where the schema allows it.
            structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
        )
    # For example an unsupported architecture, or a cache that is too small for one text of the model's full length.
    except (ValueError, VLLMClientError) as error:
        raise HeirloomError(
            f"vLLM cannot load {model}: {_one_line(error)} If the cache is too small, raise `resources.kv_cache_mib` "
            f"(now {resources.kv_cache_mib}). If the model is not supported, use "
            '`generate.sampler = "transformers"`.'
        ) from error


def _one_line(error: Exception) -> str:
    """Return the message of an error of vLLM in one line, with a full stop."""
    message = str(error)
    if isinstance(error, ValidationError):
        # Its text repeats the whole input, which is vLLM's configuration.
        message = "; ".join(detail["msg"].removeprefix("Value error, ") for detail in error.errors())
    # The remedies that it proposes are arguments of `LLM`, which recipes do not have.
    message = message.partition("Try increasing")[0]
    return " ".join(message.split()).rstrip(".") + "."


def _reload(engine: LLM, model: Path) -> None:
    """Load the weights of another model with the same configuration into the engine."""
    _LoadedEngine.model = None
    engine.collective_rpc("reload_weights", kwargs={"weights_path": str(model.resolve())})
    engine.apply_model(_pack_head)
    engine.reset_prefix_cache()


def _pack_head(network: Any) -> None:  # noqa: ANN401  (a network of vLLM)
    """Pack the output head for vLLM's CPU kernels."""
    if not current_platform.is_cpu():
        return
    from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

    if network.config.tie_word_embeddings:
        network.lm_head.weight = network.model.embed_tokens.weight
    dispatch_cpu_unquantized_gemm(network.lm_head, remove_weight=False)


def _unload() -> None:
    if _LoadedEngine.engine is not None:
        _LoadedEngine.engine.llm_engine.engine_core.shutdown()
        _LoadedEngine.model = _LoadedEngine.engine = _LoadedEngine.tokenizer = None
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
    if abs(measured - expected) > _TOLERANCE[dtype] * len(ids):
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
    input_ids: Sequence[list[int]],
    max_num_seqs: int,
) -> Iterator[list[Completion]]:
    """Yield the most likely completion that beam search finds for each prompt.

    As many prompts are searched together as have room for all their beams in the engine.
    """
    max_model_len = engine.llm_engine.model_config.max_model_len
    batch_size = max(1, max_num_seqs // settings.beam_width)
    for start in range(0, len(input_ids), batch_size):
        batch = input_ids[start : start + batch_size]
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


def _completion(output: Any) -> Completion:  # noqa: ANN401  (vLLM's RequestOutput)
    (sequence,) = output.outputs
    return Completion(
        text=sequence.text,
        finish_reason=str(sequence.finish_reason),
        prompt_tokens=len(output.prompt_token_ids),
        completion_tokens=len(sequence.token_ids),
        sum_logprob=float(sequence.cumulative_logprob),
    )
