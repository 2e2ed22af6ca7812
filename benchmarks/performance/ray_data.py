"""Run vLLM through Ray Data on the same prompts: an actor that holds an engine and receives batches.

`python -m benchmarks.performance.ray_data ray MODEL`, with the protocol of `bare_vllm`: reads file names of requests,
prints one line of figures for each.
"""

import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.performance.bare_vllm import AT_ONCE, ENGINE


class Predictor:
    """The actor of Ray's own guide to batch inference with vLLM, with a seed for each request."""

    def __init__(self, model: str) -> None:
        """Start the engine with the settings that ours has."""
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        os.environ["OMP_NUM_THREADS"] = "1"
        from vllm import LLM

        self.engine = LLM(model, **ENGINE)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Texts of one batch."""
        from vllm import SamplingParams

        requests = [json.loads(one) for one in batch["request"]]
        prompts = [{"prompt_token_ids": one["prompt"]} for one in requests]
        asked = [SamplingParams(seed=one["seed"], max_tokens=one["max_tokens"], logprobs=0) for one in requests]
        began = time.perf_counter()
        outputs = [output.outputs[0] for output in self.engine.generate(prompts, asked, use_tqdm=False)]
        return {
            "place": batch["place"],
            "text": [one.text for one in outputs],
            "tokens": [len(one.token_ids) for one in outputs],
            "began": [began] * len(outputs),
            "ended": [time.perf_counter()] * len(outputs),
        }


def main() -> None:
    """Process requests until the input ends."""
    os.environ["RAY_DEDUP_LOGS"] = os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    _, model = sys.argv[1:]
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    print("ready", flush=True)
    for line in sys.stdin:
        requests = json.loads(Path(line.strip()).read_text())
        rows = [{"place": place, "request": json.dumps(one)} for place, one in enumerate(requests)]
        made = ray.data.from_items(rows).map_batches(
            Predictor, fn_constructor_args=(model,), concurrency=1, batch_size=AT_ONCE, num_cpus=1
        )
        outputs = sorted(made.take_all(), key=lambda row: row["place"])
        # Its actors start for every dataset; that time is not counted.
        seconds = max(row["ended"] for row in outputs) - min(row["began"] for row in outputs)
        print(
            json.dumps(
                {
                    "seconds": float(seconds),
                    "tokens": sum(int(row["tokens"]) for row in outputs),
                    "texts": [row["text"] for row in outputs],
                }
            ),
            flush=True,
        )


if __name__ == "__main__":
    main()
