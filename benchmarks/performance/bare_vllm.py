"""vLLM's engine, and a plain asynchronous client, with nothing of Heirloom around them.

What generation is compared with.

`python -m benchmarks.performance.bare_vllm engine MODEL [ARGUMENTS]`, `... client ADDRESS`: reads names of files with
requests, and prints a line of figures for each. ARGUMENTS are those of the engine, as JSON.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Completions = list[tuple[str, int]]
"""Texts and their tokens."""
Request = dict[str, Any]
"""As the completions API takes it; the prompt in tokens."""
AT_ONCE = 256
KV_CACHE_MIB = 256
ENGINE: dict[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "seed": 0,
    "kv_cache_memory_bytes": KV_CACHE_MIB << 20,
    "block_size": 32,
    "max_num_seqs": AT_ONCE,
    "enable_chunked_prefill": False,
    "disable_log_stats": True,
}
"""The settings that ours has on a processor."""


def _engine(model: str, arguments: str = "") -> Callable[[list[Request]], Completions]:
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm import LLM, SamplingParams

    llm = LLM(model, **(json.loads(arguments) if arguments else ENGINE))

    def ask(requests: list[Request]) -> Completions:
        prompts = [{"prompt_token_ids": one["prompt"]} for one in requests]
        asked = [SamplingParams(seed=one["seed"], max_tokens=one["max_tokens"], logprobs=0) for one in requests]
        outputs = [output.outputs[0] for output in llm.generate(prompts, asked, use_tqdm=False)]
        return [(one.text, len(one.token_ids)) for one in outputs]

    return ask


def _client(address: str) -> Callable[[list[Request]], Completions]:
    # As vLLM's own benchmark of servers does; httpx took 9 ms of CPU a request with so many at once.
    import aiohttp

    async def all_of(requests: list[Request]) -> Completions:
        places = asyncio.Semaphore(AT_ONCE)
        wide, patient = aiohttp.TCPConnector(limit=0, keepalive_timeout=2.0), aiohttp.ClientTimeout(total=600)
        async with aiohttp.ClientSession(connector=wide, timeout=patient) as client:

            async def one_of(request: Request) -> tuple[str, int]:
                async with places, client.post(f"{address}/v1/completions", json=request) as response:
                    payload = await response.json()
                return payload["choices"][0]["text"], payload["usage"]["completion_tokens"]

            return await asyncio.gather(*map(one_of, requests))

    return lambda requests: asyncio.run(all_of(requests))


def main() -> None:
    """Process requests until the input ends."""
    kind, where, *arguments = sys.argv[1:]
    ask = _engine(where, *arguments) if kind == "engine" else _client(where)
    print("ready", flush=True)
    for line in sys.stdin:
        requests = json.loads(Path(line.strip()).read_text())
        started, cpu = time.perf_counter(), time.process_time()
        completions = ask(requests)
        took = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
        print(
            json.dumps(
                {**took, "tokens": sum(count for _, count in completions), "texts": [text for text, _ in completions]}
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
