"""vLLM's offline engine in a process that stays: one engine a model, checked against its probe before it speaks.

Every request carries its own seed and the engine runs on one thread on CPU, so a text does not depend on
batching, order or restarts. A model of the same shape is loaded into the living engine; the output head,
which vLLM's CPU kernels keep packed and do not pack again for tied heads, is then packed anew. An adapter is laid over
its base by a LoRARequest, in an engine of the base.

Assumes it owns its process: importing vLLM changes the environment and the global seeds.
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

from transformers import PreTrainedTokenizerFast
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest
from vllm.platforms import current_platform
from vllm.sampling_params import BeamSearchParams, RequestOutputKind, StructuredOutputsParams

from tasks.backends.models.adapters import adapter_base_path, vllm_max_lora_rank
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling
from tasks.backends.types import Completion, Progress, Prompt

_PROBE = "probe.json"
_PROGRESS_INTERVAL_S = 0.1
_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05}
"""Largest difference to the probe, in nats a token."""


class _LoadedEngine:
    """The engine that is loaded, and for which model."""

    model: Path | None = None
    engine: LLM | None = None
    tokenizer: PreTrainedTokenizerFast | None = None
    shape: tuple[str, ...] | None = None
    adapter: LoRARequest | None = None
    adapters = 0


def sample(
    settings: Sampling, resources: Resources, model: Path, prompts: Sequence[Prompt], progress: Progress
) -> Iterator[list[Completion]]:
    """Yield completions in the order of the prompts, in batches as they become complete.

    Raises:
        HeirloomError: the model folder is not one that vLLM can open, or does not answer as its probe says.
    """
    engine, tokenizer = _load(settings, resources, model)
    core = engine.llm_engine
    longest = core.model_config.max_model_len
    if not prompts:
        return
    texts = tokenizer([prompt.text for prompt in prompts], add_special_tokens=False)["input_ids"]
    # Some models of others know no sign for the beginning.
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    spelled = [[*begin, *ids][: longest - 1] for ids in texts]
    if settings.beam_width > 1:
        yield from _searched(engine, tokenizer, settings, spelled, resources.max_num_seqs, progress)
        return
    for place, (prompt, ids) in enumerate(zip(prompts, spelled, strict=True)):
        core.add_request(
            str(place),
            {"prompt_token_ids": ids},
            _parameters(settings, prompt.seed),
            lora_request=_LoadedEngine.adapter,
        )
    finished: dict[int, Completion] = {}
    due, told = 0, time.monotonic()
    while core.has_unfinished_requests():
        for output in core.step():
            if output.finished:
                finished[int(output.request_id)] = _completion(output)
        # A message a step would cost more than what it says.
        if time.monotonic() - told < _PROGRESS_INTERVAL_S and core.has_unfinished_requests():
            continue
        ready = []
        while due in finished:
            ready.append(finished.pop(due))
            due += 1
        if ready:
            yield ready
        told = time.monotonic()
        progress(due + len(finished), len(prompts))


def _load(settings: Sampling, resources: Resources, model: Path) -> tuple[LLM, PreTrainedTokenizerFast]:
    base = adapter_base_path(model)
    whole = Path(base) if base else model
    if not all(path.is_file() for path in (whole / "config.json", model / "tokenizer.json")):
        raise HeirloomError(f"{model} is no model: expected a folder with config.json and weights, and tokenizer.json")
    if _LoadedEngine.model != model:
        # Text is made by the engine's own tokenizer, so a model with another one needs another engine.
        spelling = hashlib.sha256((model / "tokenizer.json").read_bytes()).hexdigest()
        # A base is loaded once for all its adapters, which are as wide as the first at most.
        laid_over = (str(whole), str(vllm_max_lora_rank(model))) if base else ()
        shape = (settings.dtype, (whole / "config.json").read_text(), spelling, *laid_over)
        if _LoadedEngine.engine is None or _LoadedEngine.shape != shape:
            _unload()
            _LoadedEngine.engine = _engine(settings, resources, whole, vllm_max_lora_rank(model) if base else 0)
        elif not base:
            _reload(_LoadedEngine.engine, model)
        _LoadedEngine.shape, _LoadedEngine.model, _LoadedEngine.adapter = shape, None, None
        if base:
            _LoadedEngine.adapters += 1
            _LoadedEngine.adapter = LoRARequest(str(model), _LoadedEngine.adapters, str(model.resolve()))
        _LoadedEngine.tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
        _verify_reference_logprob(_LoadedEngine.engine, model, settings.dtype)
        _LoadedEngine.model = model
    assert _LoadedEngine.engine is not None
    assert _LoadedEngine.tokenizer is not None
    return _LoadedEngine.engine, _LoadedEngine.tokenizer


def _engine(settings: Sampling, resources: Resources, model: Path, rank: int) -> LLM:
    return LLM(
        str(model),
        dtype=settings.dtype,
        enforce_eager=True,
        seed=0,
        kv_cache_memory_bytes=resources.kv_cache_mib << 20,
        block_size=32,
        max_num_seqs=resources.max_num_seqs,
        # On CPU a seeded request whose prompt is cut into chunks ends the engine.
        enable_chunked_prefill=False,
        disable_log_stats=True,
        **({"enable_lora": True, "max_lora_rank": rank} if rank else {}),
        # A small model may say white space for ever where the schema lets it.
        structured_outputs_config={"backend": "xgrammar", "disable_any_whitespace": True},
    )


def _reload(engine: LLM, model: Path) -> None:
    _LoadedEngine.model = None
    engine.collective_rpc("reload_weights", kwargs={"weights_path": str(model.resolve())})
    engine.apply_model(_pack_head)
    engine.reset_prefix_cache()


def _pack_head(network: Any) -> None:  # noqa: ANN401  (whatever network vLLM has built)
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
    if not (model / _PROBE).is_file():
        return
    probe = json.loads((model / _PROBE).read_text())
    ids, expected = probe["token_ids"], probe["log_probability"]
    asked = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False)
    (output,) = engine.generate([{"prompt_token_ids": ids}], asked, use_tqdm=False, lora_request=_LoadedEngine.adapter)
    found = sum(entry[token].logprob for entry, token in zip(output.prompt_logprobs[1:], ids[1:], strict=True))
    if abs(found - expected) > _TOLERANCE[dtype] * len(ids):
        _LoadedEngine.model = None
        raise HeirloomError(
            f"vLLM does not speak for {model}: its probe has log-probability {expected:.3f}, the engine says {found:.3f}"
        )


def _searched(
    engine: LLM,
    tokenizer: PreTrainedTokenizerFast,
    settings: Sampling,
    spelled: Sequence[list[int]],
    together: int,
    progress: Progress,
) -> Iterator[list[Completion]]:
    """The likeliest text that a beam search finds for each prompt; as many prompts at a time as fill the engine."""
    longest = engine.llm_engine.model_config.max_model_len
    some = max(1, together // settings.beam_width)
    for start in range(0, len(spelled), some):
        batch = spelled[start : start + some]
        found: dict[int, Completion] = {}
        # A search knows no context length: prompts with less room than the others are a search of their own.
        for room in {min(settings.max_tokens, longest - len(ids)) for ids in batch}:
            places = [place for place, ids in enumerate(batch) if min(settings.max_tokens, longest - len(ids)) == room]
            asked = BeamSearchParams(beam_width=settings.beam_width, max_tokens=room)
            opened = [{"prompt_token_ids": batch[place]} for place in places]
            outputs = engine.beam_search(opened, asked, lora_request=_LoadedEngine.adapter)
            for place, output in zip(places, outputs, strict=True):
                found[place] = _best(output.sequences[0], tokenizer, len(batch[place]))
        yield [found[place] for place in range(len(batch))]
        progress(start + len(batch), len(spelled))


def _best(beam: Any, tokenizer: PreTrainedTokenizerFast, prompt_tokens: int) -> Completion:  # noqa: ANN401  (vLLM's beam)
    spoken = beam.tokens[prompt_tokens:]
    return Completion(
        text=tokenizer.decode(spoken, skip_special_tokens=True),
        finish_reason="stop" if spoken[-1:] == [tokenizer.eos_token_id] else "length",
        prompt_tokens=prompt_tokens,
        completion_tokens=len(spoken),
        sum_logprob=float(beam.cum_logprob),
    )


def _parameters(settings: Sampling, seed: int) -> SamplingParams:
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
        # Or every step makes an answer for every sequence, which nobody reads.
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _completion(output: Any) -> Completion:  # noqa: ANN401  (vLLM's RequestOutput)
    (spoken,) = output.outputs
    return Completion(
        text=spoken.text,
        finish_reason=str(spoken.finish_reason),
        prompt_tokens=len(output.prompt_token_ids),
        completion_tokens=len(spoken.token_ids),
        sum_logprob=float(spoken.cumulative_logprob),
    )
