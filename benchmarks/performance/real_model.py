"""Measure generation with SmolLM2 against vLLM alone, with the same arguments, prompts, seeds and settings.

The engine of Heirloom logs its arguments; the bare engine gets them in a process of its own, with the same number of
threads. Rounds alternate, and the figure is the median of their ratios. Needs two free cores and about ten minutes.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.figures import WORK, Figure
from tasks.backends import Prompt, Resources, Sampling
from tasks.backends.models.pretrained import resolve_model
from tasks.backends.registry import Backends

_FOLDER = WORK / "real"
_ROUNDS = 3
_NUM_PROMPTS = 256
_NEW_TOKENS = 128
_THREADS = 2
_SUBJECTS = ("a river", "an old house", "the winter", "a long journey", "bread", "the night sky", "a letter", "music")
_FORMS = ("A short story about {}:", "Three facts about {}:", "What I remember of {} is", "Questions about {}:")
_SAMPLING = Sampling(sampler="vllm", max_tokens=_NEW_TOKENS, temperature=1.0)


def measure() -> list[Figure]:
    """Compare tokens a second, and return the ratio with both rates."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    model = resolve_model("smollm2")
    prompts = [
        Prompt(_FORMS[index // len(_SUBJECTS) % len(_FORMS)].format(_SUBJECTS[index % len(_SUBJECTS)]), index)
        for index in range(_NUM_PROMPTS)
    ]
    logs = _FOLDER / f"logs-{os.getpid()}"
    backends = Backends(Resources(threads_per_worker=_THREADS), logs)
    try:
        _ours(backends, model, prompts)
        log = (logs / "vllm_engine-1.log").read_text()
        arguments = re.findall(r"^vLLM loads .* with (\{.*\})$", log, re.MULTILINE)
        with _bare(model, arguments[-1], prompts) as ask:
            ask()
            rounds = [(_ours(backends, model, prompts), ask()) for _ in range(_ROUNDS)]
    finally:
        backends.close()
    ratio = statistics.median(ours / theirs for ours, theirs in rounds)
    return [
        Figure(
            "generation with SmolLM2 / bare LLM.generate", round(ratio, 3), "tokens/s ratio", ">= .97", ratio >= 0.97
        ),
        Figure("generation with SmolLM2", round(statistics.median(ours for ours, _ in rounds)), "tokens/s"),
        Figure("bare LLM.generate", round(statistics.median(theirs for _, theirs in rounds)), "tokens/s"),
    ]


def _ours(backends: Backends, model: Path, prompts: Sequence[Prompt]) -> float:
    """Return tokens a second from prompts to completions in this process."""
    started = time.perf_counter()
    completions = list(backends.sampler(_SAMPLING).sample(model, prompts, lambda *_: None))
    return sum(completion.completion_tokens for completion in completions) / (time.perf_counter() - started)


@contextmanager
def _bare(model: Path, arguments: str, prompts: Sequence[Prompt]) -> Iterator[Callable[[], float]]:
    """Yield a function that asks a bare engine in a process of its own, and returns its tokens a second."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(model)
    requests: list[dict[str, Any]] = [
        {
            "prompt": [tokenizer.bos_token_id, *tokenizer(prompt.text, add_special_tokens=False)["input_ids"]],
            "seed": prompt.seed,
            "max_tokens": _NEW_TOKENS,
        }
        for prompt in prompts
    ]
    file = _FOLDER / "requests.json"
    file.write_text(json.dumps(requests))
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.performance.bare_vllm", "engine", str(model), arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": str(_THREADS)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    write, read = process.stdin, process.stdout

    def ask() -> float:
        write.write(f"{file}\n")
        write.flush()
        answer = json.loads(next(line for line in read if line.startswith("{")))
        return float(answer["tokens"] / answer["seconds"])

    try:
        next(line for line in read if line == "ready\n")
        yield ask
    finally:
        process.kill()
        process.wait()
