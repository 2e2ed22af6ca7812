"""Where a training starts: a network from scratch or from a model that is there, its spelling, and an adapter laid over it."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from heirloom.errors import HeirloomError
from tasks.backends.models.loading import first_line, load_tokenizer, split_adapter
from tasks.backends.settings.training import TransformerTraining
from tasks.backends.training.loss import LlamaWithChunkedLoss
from tasks.backends.training.tokenizer import train_bpe_tokenizer
from tasks.backends.types import TrainingCorpus

_ENDS = (".o_proj", ".down_proj")
"""Where layers of Llama's family add to the stream."""


def build_model(
    settings: TransformerTraining, initial_weights: Path | str | None, gen0_model: Path | None, corpus: TrainingCorpus
) -> tuple[Any, PreTrainedTokenizerFast]:
    """The network that learns, in float32, with its tokenizer; wrapped by PEFT where an adapter is trained.

    Raises:
        HeirloomError: there is no model to begin with, or it spells otherwise than generation 0's.
    """
    if initial_weights is None:
        tokenizer = (
            load_tokenizer(gen0_model)
            if gen0_model
            else train_bpe_tokenizer(_texts(corpus), settings.vocab_size, settings.context_length)
        )
        shape = _shape(settings, tokenizer)
        network = (
            LlamaWithChunkedLoss(shape) if settings.chunked_cross_entropy else AutoModelForCausalLM.from_config(shape)
        )
        return _dropping(network, settings.residual_dropout), tokenizer
    tokenizer = load_tokenizer(initial_weights)
    _refuse_other_spelling(tokenizer, initial_weights, gen0_model)
    below, above = split_adapter(initial_weights)
    network = _opened(below, settings)
    if len(tokenizer) > network.config.vocab_size:
        raise HeirloomError(
            f"vocabulary mismatch: the tokenizer of {initial_weights} has {len(tokenizer)} tokens and its model "
            f"{network.config.vocab_size}; take the tokenizer that the model was made with"
        )
    network.config.pad_token_id = tokenizer.pad_token_id
    network = _adapted(network, above, settings, below) if settings.lora_rank else _merged(network, above)
    return _dropping(network, settings.residual_dropout), tokenizer


def _texts(corpus: TrainingCorpus) -> list[str]:
    return [text if isinstance(text, str) else "".join(text) for text in (*corpus.human, *corpus.synthetic)]


def _shape(settings: TransformerTraining, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=int(settings.hidden_size * 8 / 3) // 32 * 32,
        num_hidden_layers=settings.num_hidden_layers,
        num_attention_heads=settings.num_attention_heads,
        num_key_value_heads=settings.num_attention_heads,
        max_position_embeddings=settings.context_length,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attention_dropout=settings.dropout,
        attn_implementation=_attention(settings),
        dtype="float32",
    )


def _attention(settings: TransformerTraining) -> str:
    """On a CPU, at short context, plain multiplication is faster than the fused kernel."""
    return "eager" if settings.context_length <= 128 and not torch.cuda.is_available() else "sdpa"


def _opened(model: str, settings: TransformerTraining) -> Any:  # noqa: ANN401
    try:
        shape = AutoConfig.from_pretrained(model)
        kind = (
            LlamaWithChunkedLoss
            if settings.chunked_cross_entropy and type(shape) is LlamaConfig
            else AutoModelForCausalLM
        )
        network = kind.from_pretrained(
            model, dtype=torch.float32, attn_implementation=_attention(settings), **_dropped(shape, settings.dropout)
        )
    except (OSError, ValueError, KeyError) as error:
        raise HeirloomError(
            f"no model can be read from {model}: {first_line(error)}; name a folder with config.json and weights, "
            "or a model that can be fetched"
        ) from error
    longest = getattr(network.config, "max_position_embeddings", settings.context_length)
    if settings.context_length > longest:
        raise HeirloomError(
            f"train.context_length is {settings.context_length}, and {model} sees {longest} tokens at once; lower it"
        )
    if settings.dropout and not _dropped(shape, settings.dropout):
        raise HeirloomError(
            f"train.dropout is {settings.dropout}, and {model} has no dropout on attention; leave it out"
        )
    return network


def _dropped(shape: Any, share: float) -> dict[str, float]:  # noqa: ANN401
    """A share as dropout on attention, by the name that this kind of model has for it."""
    return {name: share for name in ("attention_dropout", "attn_pdrop") if hasattr(shape, name)}


def _dropping(network: Any, share: float) -> Any:  # noqa: ANN401
    """The network, which loses this share of what its layers add to the stream while it learns; nothing of it is saved."""

    def drop(module: torch.nn.Module, _: object, added: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(added, share, module.training)

    ends = [one for name, one in network.named_modules() if share and name.endswith(_ENDS)]
    if share and not ends:
        known = ", ".join(name.removeprefix(".") for name in _ENDS)
        raise HeirloomError(
            f"train.residual_dropout is {share}, and {type(network).__name__} has no {known}; leave it out"
        )
    for one in ends:
        one.register_forward_hook(drop)
    return network


def _adapted(network: Any, above: Path | None, settings: TransformerTraining, below: str) -> Any:  # noqa: ANN401
    from peft import LoraConfig, PeftModel, TaskType, get_peft_model

    if above and settings.save_adapter_only:
        there = LoraConfig.from_pretrained(above)
        if (there.r, there.lora_alpha) != (settings.lora_rank, settings.lora_alpha):
            raise HeirloomError(
                f"train.lora_rank is {settings.lora_rank} and lora_alpha {settings.lora_alpha}, and the adapter that is to learn on, "
                f"{above}, has {there.r} and {there.lora_alpha}: take these, or set train.save_adapter_only = false, which begins another"
            )
        there.lora_dropout = settings.dropout
        return PeftModel.from_pretrained(network, above, is_trainable=True, config=there)
    asked = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        task_type=TaskType.CAUSAL_LM,
        base_model_name_or_path=below,
    )
    return get_peft_model(_merged(network, above), asked)


def _merged(network: Any, above: Path | None) -> Any:  # noqa: ANN401
    if not above:
        return network
    from peft import PeftModel

    return PeftModel.from_pretrained(network, above).merge_and_unload()


def _refuse_other_spelling(
    tokenizer: PreTrainedTokenizerFast, initial_weights: Path | str, gen0_model: Path | None
) -> None:
    if gen0_model and _spelling(tokenizer) != _spelling(load_tokenizer(gen0_model)):
        raise HeirloomError(
            f"vocabulary mismatch: {initial_weights} spells otherwise than generation 0's model, {gen0_model}; a run keeps one "
            "vocabulary, so begin another run for another base"
        )


def _spelling(tokenizer: PreTrainedTokenizerFast) -> str:
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
