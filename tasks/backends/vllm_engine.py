"""vLLM's offline engine in a process that stays: one engine a model, checked against its probe before it speaks.

Every request carries its own seed and the engine runs on one thread on CPU, so a text does not depend on
batching, order or restarts. A new model gets a new engine: seconds, and right for tied heads, where loading
new weights into a living engine leaves the old output head in place.

Assumes it owns its process: importing vLLM changes the environment and the global seeds.
"""

import gc
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ["VLLM_NO_USAGE_STATS"] = "1"
os.environ["DO_NOT_TRACK"] = "1"

from transformers import PreTrainedTokenizerFast  # noqa: E402
from vllm import LLM, SamplingParams  # noqa: E402

from tasks.backends import Completion, Progress, Prompt, Resources, Sampling  # noqa: E402

_PROBE = "probe.json"
_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.05}
"""Largest difference to the probe, in nats a token."""


class _Speaking:
    """The engine that is loaded, and for which model."""

    model: Path | None = None
    engine: LLM | None = None
    tokenizer: PreTrainedTokenizerFast | None = None


def warm(progress: Progress) -> None:
    """Import vLLM ahead of the first request."""
    progress(1, 1)


def sample(
    settings: Sampling, resources: Resources, model: Path, prompts: Sequence[Prompt], progress: Progress
) -> Iterator[list[Completion]]:
    """Yield completions in the order of the prompts, in batches as they become complete.

    Raises:
        ValueError: the model folder is not one that vLLM can open, or does not answer as its probe says.
    """
    engine, tokenizer = _load(settings, resources, model)
    core = engine.llm_engine
    longest = core.model_config.max_model_len
    for place, prompt in enumerate(prompts):
        ids = [tokenizer.bos_token_id, *tokenizer(prompt.text, add_special_tokens=False)["input_ids"]][: longest - 1]
        core.add_request(str(place), {"prompt_token_ids": ids}, _parameters(settings, prompt.seed))
    finished: dict[int, Completion] = {}
    due = told = 0
    while core.has_unfinished_requests():
        for output in core.step():
            if output.finished:
                finished[int(output.request_id)] = _completion(output)
        ready = []
        while due in finished:
            ready.append(finished.pop(due))
            due += 1
        if ready:
            yield ready
        if due + len(finished) > told:
            told = due + len(finished)
            progress(told, len(prompts))


def _load(settings: Sampling, resources: Resources, model: Path) -> tuple[LLM, PreTrainedTokenizerFast]:
    if _Speaking.model != model:
        _unload()
        if not (model / "config.json").is_file():
            raise ValueError(f"{model} is no model: expected a folder with config.json and weights")
        _Speaking.engine = LLM(
            str(model),
            dtype=settings.dtype,
            skip_tokenizer_init=False,
            enforce_eager=True,
            seed=0,
            kv_cache_memory_bytes=resources.kv_cache_mib << 20,
            block_size=32,
            max_num_seqs=resources.max_num_seqs,
            enable_chunked_prefill=False,
            disable_log_stats=True,
        )
        _Speaking.tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
        _Speaking.model = model
        _check_probe(_Speaking.engine, model, settings.dtype)
    assert _Speaking.engine is not None
    assert _Speaking.tokenizer is not None
    return _Speaking.engine, _Speaking.tokenizer


def _unload() -> None:
    if _Speaking.engine is not None:
        _Speaking.engine.llm_engine.engine_core.shutdown()
        _Speaking.model = _Speaking.engine = _Speaking.tokenizer = None
        gc.collect()


def _check_probe(engine: LLM, model: Path, dtype: str) -> None:
    if not (model / _PROBE).is_file():
        return
    probe = json.loads((model / _PROBE).read_text())
    ids, expected = probe["token_ids"], probe["log_probability"]
    asked = SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False)
    if len(ids) >= engine.llm_engine.model_config.max_model_len:
        ids = ids[:-1]
        expected = None
    (output,) = engine.generate([{"prompt_token_ids": ids}], asked, use_tqdm=False)
    found = sum(entry[token].logprob for entry, token in zip(output.prompt_logprobs[1:], ids[1:], strict=True))
    if expected is not None and abs(found - expected) > _TOLERANCE[dtype] * len(ids):
        raise ValueError(
            f"vLLM does not speak for {model}: its probe has log-probability {expected:.3f}, the engine says {found:.3f}"
        )


def _parameters(settings: Sampling, seed: int) -> SamplingParams:
    return SamplingParams(
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k or -1,
        min_p=settings.min_p,
        max_tokens=settings.max_tokens,
        seed=seed,
        logprobs=0,
    )


def _completion(output: Any) -> Completion:  # noqa: ANN401  (vLLM's RequestOutput)
    (spoken,) = output.outputs
    return Completion(
        text=spoken.text,
        finish_reason=str(spoken.finish_reason),
        prompt_tokens=len(output.prompt_token_ids),
        completion_tokens=len(spoken.token_ids),
        log_probability=float(spoken.cumulative_logprob),
    )
