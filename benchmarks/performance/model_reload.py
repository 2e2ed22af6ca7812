"""Measure loading new weights into a running engine, and compare its texts with those of a fresh engine."""

import json
import shutil
import statistics
from pathlib import Path

from benchmarks.figures import Figure, short
from benchmarks.performance.generation_setup import RESOURCES, STORE, TOKENS, open_backends, open_scene, spent, untold
from storage.artifacts.artifact import read_table
from tasks.backends import Prompt, Sampling
from tasks.orchestration.prefect import without_prefect


def model_figures() -> list[Figure]:
    """Its CPU over that of a cold start, and its difference to transformers."""
    found = []
    with without_prefect():
        folders = [model.folder for model in open_scene().models[:2]]
        untied = [_untied(folder) for folder in folders]
        for head, (first, second) in {"tied": folders, "untied": untied}.items():
            living, difference = _new_model(first, second)
            label = f"{head} head: CPU time, weight reload / cold start"
            found.append(Figure(label, short(living), "ratio", "<= 0.25", living <= 0.25))
            label = f"{head} head: largest difference from transformers"
            found.append(Figure(label, short(difference), "nats per token", "<= 0.0001", difference <= 1e-4))
    return found


def five_figures() -> list[Figure]:
    """The texts of five models in a living engine, and of each in a process of its own."""
    with without_prefect():
        models = [model.folder for model in open_scene().models]
    sampling, prompts = Sampling(sampler="vllm", max_tokens=TOKENS), [Prompt("", seed) for seed in range(256)]
    with open_backends() as living:
        together = [list(living.sampler(sampling).sample(model, prompts, untold)) for model in models]
    unlike = 0
    for model, completions in zip(models, together, strict=True):
        with open_backends() as cold:
            alone = cold.sampler(sampling).sample(model, prompts, untold)
            unlike += sum(one != other for one, other in zip(completions, alone, strict=True))
    label = f"five generations in one engine: texts that differ from cold starts, of {len(models) * len(prompts)}"
    return [Figure(label, unlike, "", "0", unlike == 0)]


def _untied(folder: Path) -> Path:
    """The model with an output head of its own, and its probe by transformers."""
    import torch
    from transformers import LlamaForCausalLM

    target = STORE / "untied" / folder.parent.name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
    network = LlamaForCausalLM.from_pretrained(folder)
    network.config.tie_word_embeddings = False
    torch.manual_seed(0)
    head = network.lm_head.weight.detach()
    network.lm_head.weight = torch.nn.Parameter(head + 0.05 * head.std() * torch.randn_like(head))
    network.save_pretrained(target)
    ids = json.loads((folder / "probe.json").read_text())["token_ids"]
    with torch.inference_mode():
        logs = network(input_ids=torch.tensor([ids])).logits[0, :-1].float().log_softmax(-1)
    total = float(logs.gather(1, torch.tensor(ids[1:])[:, None]).sum())
    (target / "probe.json").write_text(json.dumps({"token_ids": ids, "log_probability": total}))
    return target


def _new_model(first: Path, second: Path) -> tuple[float, float]:
    """CPU of the first word of a new model in a living engine over that in a new process.

    The difference to transformers.
    """
    one, sampling = [Prompt("The", 0)], Sampling(sampler="vllm", max_tokens=4)
    openings = [
        " ".join(text.split()[:5])
        for text in read_table(open_scene().human.train.folder, ["text"])["text"].to_pylist()[:32]
    ]
    prompts, likeliest = [Prompt(text, 0) for text in openings], {"top_k": 1, "max_tokens": 24}
    cold, living, differences = [], [], []
    for _ in range(2):
        with open_backends() as backends, backends.pool.lease("vllm_engine", first) as worker:
            list(worker.stream("sample", untold, sampling, RESOURCES, first, one))
            cold.append(spent(worker))
            for model in (second, first, second):
                before = spent(worker)
                list(worker.stream("sample", untold, sampling, RESOURCES, model, one))
                living.append(spent(worker) - before)
            asked = Sampling.model_validate({"sampler": "vllm", **likeliest})
            batches = worker.stream("sample", untold, asked, RESOURCES, second, prompts)
            fast = [text for batch in batches for text in batch]
    with open_backends() as backends:
        asked = Sampling.model_validate({"sampler": "transformers", **likeliest})
        slow = backends.sampler(asked).sample(second, prompts, untold)
        for completions, reference in zip(fast, slow, strict=True):
            if (
                completions.text != reference.text
                or completions.log_probability is None
                or reference.sum_logprob is None
            ):
                raise ValueError(
                    f"the likeliest text is {completions.text!r} by vLLM and {reference.text!r} by transformers"
                )
            differences.append(abs(completions.log_probability - reference.sum_logprob) / completions.completion_tokens)
    return statistics.median(living) / statistics.median(cold), max(differences)
