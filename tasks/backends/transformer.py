"""A Llama-shaped causal language model: trained by transformers' Trainer, scored and, slowly, sampled by transformers.

Runs in a worker process, so that torch's threads and memory are its own. It is the reference for vLLM: every model
folder carries `probe.json`, a text and its log-likelihood here, which a sampler must reproduce before it speaks.
Assumes CPU or one GPU. It does not resume a training from within.
"""

import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    EarlyStoppingCallback,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from tasks.backends import Completion, Corpus, Lesson, Progress, Prompt, Resources, Sampling, Score, TransformerTraining
from tasks.backends.decoding import complete
from tasks.backends.head import SlicedHeadLlama
from tasks.backends.optimiser import muon_and_adamw
from tasks.backends.packing import Blocks, human_share_plan, packed_stream
from tasks.backends.vocabulary import learn_vocabulary

PROBE = "probe.json"
_EVALUATIONS = 12


def train(
    settings: TransformerTraining,
    corpus: Corpus,
    heldout: Sequence[str],
    ancestor: Path | None,
    folder: Path,
    seed: int,
    progress: Progress,
) -> Lesson:
    """Train from scratch on packed blocks in the order that the human schedule asks for.

    Raises:
        ValueError: nothing to learn from, or a loss that is not a number.
    """
    started = time.monotonic()
    set_seed(seed)
    texts = [*corpus.human, *corpus.synthetic]
    tokenizer = _tokenizer(ancestor) if ancestor else learn_vocabulary(texts, settings.vocabulary, settings.context)
    blocks, shares = _plan(settings, corpus, tokenizer, ancestor is None, seed)
    model = SlicedHeadLlama(_shape(settings, tokenizer))
    evaluated = Blocks.of_texts(tokenizer, heldout, settings.context) if settings.stop_early else None
    if evaluated is not None and not len(evaluated):
        raise ValueError(
            f"stop_early measures on held-out text, and all held-out text is shorter than one block of {settings.context} tokens; "
            "ingest more, or set train.stop_early = false"
        )
    trainer = Trainer(
        model=model,
        args=_arguments(settings, folder, len(blocks) // settings.batch, seed),
        train_dataset=blocks,
        eval_dataset=evaluated,
        optimizers=(muon_and_adamw(model, settings), None),
        callbacks=[_Reporter(progress), *([EarlyStoppingCallback(3)] if settings.stop_early else [])],
    )
    trainer.train()
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    losses = _losses(trainer.state.log_history)
    if not losses or not all(math.isfinite(loss) for _, loss, _ in losses):
        raise ValueError(
            f"training lost its way: the loss is not a number after {trainer.state.global_step} steps; lower learning_rate"
        )
    _publish(model, tokenizer, folder, corpus)
    seen = trainer.state.global_step * settings.batch
    return Lesson(
        tokens=seen * settings.context,
        human_tokens=sum(shares[:seen]) * settings.context,
        steps=trainer.state.global_step,
        seconds=time.monotonic() - started,
        losses=losses,
    )


def score(model: Path, texts: Sequence[str], temperatures: Sequence[float], progress: Progress) -> list[Score]:
    """Log-likelihood of each text, from its first token to its end, cut to the context of the model."""
    tokenizer, network = _tokenizer(model), _network(model)
    longest = network.config.max_position_embeddings
    encoded = [_ids(tokenizer, text)[:longest] for text in texts]
    order = sorted(range(len(encoded)), key=lambda place: len(encoded[place]))
    scores: list[Score | None] = [None] * len(encoded)
    for start in range(0, len(order), 32):
        batch = order[start : start + 32]
        for place, nats in zip(batch, _nats(network, [encoded[place] for place in batch], temperatures), strict=True):
            scores[place] = Score(tokens=len(encoded[place]) - 1, nats=nats)
        progress(min(start + 32, len(order)), len(order))
    return [found for found in scores if found is not None]


def sample(
    settings: Sampling,
    resources: Resources,  # noqa: ARG001  (every sampler is asked alike)
    model: Path,
    prompts: Sequence[Prompt],
    progress: Progress,
) -> Iterator[list[Completion]]:
    """Speak one prompt at a time, each from its own seed: slow, and the same whatever the batching."""
    tokenizer, network = _tokenizer(model), _network(model)
    longest = network.config.max_position_embeddings
    for place, prompt in enumerate(prompts):
        dice = torch.Generator().manual_seed(prompt.seed)
        ids = _ids(tokenizer, prompt.text, closed=False)[: longest - 1]
        yield [complete(settings, tokenizer, network, ids, dice, longest)]
        progress(place + 1, len(prompts))


def _plan(
    settings: TransformerTraining, corpus: Corpus, tokenizer: PreTrainedTokenizerFast, human_only: bool, seed: int
) -> tuple[Blocks, list[bool]]:
    if not corpus.human and not corpus.synthetic:
        raise ValueError("the corpus is empty: there is nothing to learn from")
    steps = settings.human_only_steps if human_only else settings.steps
    human = packed_stream(tokenizer, corpus.human, settings.context, seed)
    synthetic = packed_stream(tokenizer, corpus.synthetic, settings.context, seed + 1)
    shares = human_share_plan(settings.human_schedule, human.tokens, synthetic.tokens, steps * settings.batch)
    return Blocks([(human if is_human else synthetic).next_block() for is_human in shares]), shares


def _shape(settings: TransformerTraining, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden,
        intermediate_size=int(settings.hidden * 8 / 3) // 32 * 32,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=settings.context,
        tie_word_embeddings=True,
        attention_dropout=settings.dropout,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="eager" if settings.context <= 128 else "sdpa",
        dtype="float32",
    )


def _arguments(settings: TransformerTraining, folder: Path, steps: int, seed: int) -> TrainingArguments:
    checkpoints = max(1, steps // _EVALUATIONS)
    stop_early: dict[str, Any] = {
        "eval_strategy": "steps",
        "eval_steps": checkpoints,
        "per_device_eval_batch_size": 32,
        "save_strategy": "steps",
        "save_steps": checkpoints,
        "save_total_limit": 1,
        "load_best_model_at_end": True,
        "metric_for_best_model": "eval_loss",
        "greater_is_better": False,
    }
    return TrainingArguments(
        output_dir=str(folder / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=settings.batch,
        train_sampling_strategy="sequential",
        lr_scheduler_type="linear",
        warmup_steps=max(1, steps // 20),
        max_grad_norm=1.0,
        bf16=_bfloat16(settings),
        use_cpu=not torch.cuda.is_available(),
        seed=seed,
        data_seed=seed,
        logging_steps=max(1, steps // 20),
        # Left on, it writes the mean of the steps before in place of a loss that is not a number.
        logging_nan_inf_filter=False,
        report_to=[],
        disable_tqdm=True,
        dataloader_num_workers=0,
        **(stop_early if settings.stop_early else {"save_strategy": "no"}),
    )


def _bfloat16(settings: TransformerTraining) -> bool:
    if settings.precision != "auto":
        return settings.precision == "bfloat16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    # Below this width the casts cost more than the multiplications save, even on cores with BF16.
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return settings.hidden >= 512 and bool(supported())


class _Reporter(TrainerCallback):
    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ANN401, ARG002  (the library's signature)
        # A held-out loss is kept beside the training loss of its step, so that step needs one.
        control.should_log = control.should_log or control.should_evaluate
        self._progress(state.global_step, state.max_steps)


def _losses(history: list[dict[str, float]]) -> tuple[tuple[int, float, float | None], ...]:
    heldout = {int(entry["step"]): entry["eval_loss"] for entry in history if "eval_loss" in entry}
    seen = {int(entry["step"]): entry["loss"] for entry in history if "loss" in entry}
    return tuple((step, loss, heldout.get(step)) for step, loss in sorted(seen.items()))


def _publish(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path, corpus: Corpus) -> None:
    # Saved as the plain Llama that it is, so that every library opens it.
    plain = LlamaForCausalLM(model.config)
    plain.load_state_dict(model.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ids = _ids(tokenizer, next(iter([*corpus.human, *corpus.synthetic])))[: model.config.max_position_embeddings - 1]
    (nats,) = _nats(plain.eval(), [ids], [1.0])
    (folder / PROBE).write_text(json.dumps({"token_ids": ids, "log_probability": -nats[0]}))


def _tokenizer(model: Path) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast.from_pretrained(model)


def _network(model: Path) -> LlamaForCausalLM:
    return LlamaForCausalLM.from_pretrained(model, dtype=torch.float32, attn_implementation="eager").eval()


def _ids(tokenizer: PreTrainedTokenizerFast, text: str, closed: bool = True) -> list[int]:
    ids = [tokenizer.bos_token_id, *tokenizer(text, add_special_tokens=False)["input_ids"]]
    return [*ids, tokenizer.eos_token_id] if closed else ids


@torch.inference_mode()
def _nats(network: LlamaForCausalLM, batch: list[list[int]], temperatures: Sequence[float]) -> list[tuple[float, ...]]:
    longest = max(len(ids) for ids in batch)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in batch])
    real = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in batch])
    logits = network(input_ids=ids, attention_mask=real).logits[:, :-1].float()
    targets, counted = ids[:, 1:, None], real[:, 1:]
    columns = []
    for temperature in temperatures:
        found = (logits / temperature).log_softmax(-1).gather(-1, targets)[..., 0]
        columns.append((-(found * counted).sum(-1)).tolist())
    return list(zip(*columns, strict=True))
