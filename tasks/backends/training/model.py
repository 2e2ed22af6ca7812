"""Build the initial model of a training: from scratch or from existing weights, with its tokenizer and LoRA adapter."""

import hashlib
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    LlamaConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from heirloom.errors import HeirloomError, one_line
from tasks.backends.models.loading import load_tokenizer, split_adapter
from tasks.backends.settings.training import TransformerTraining
from tasks.backends.training.loss import LlamaWithChunkedLoss
from tasks.backends.training.tokenizer import train_bpe_tokenizer
from tasks.backends.types import TrainingCorpus, plain_text

_RESIDUAL_OUTPUTS = (".o_proj", ".down_proj")
"""Last modules of attention and feed-forward layers in models of the Llama family."""


def build_model(
    settings: TransformerTraining, initial_weights: Path | str | None, gen0_model: Path | None, corpus: TrainingCorpus
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Return the model to train, in float32, and its tokenizer. With `lora_rank` the model is wrapped by PEFT.

    Raises:
        HeirloomError: the initial model cannot be read, does not fit the settings, or has another tokenizer than that
            of generation 0.
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
        return _add_residual_dropout(network, settings.residual_dropout), tokenizer
    tokenizer = load_tokenizer(initial_weights)
    _require_same_tokenizer(tokenizer, initial_weights, gen0_model)
    base, adapter = split_adapter(initial_weights)
    network = _load_base(base, settings)
    if len(tokenizer) > network.config.vocab_size:
        raise HeirloomError(
            f"Vocabulary mismatch: the tokenizer of {initial_weights} has {len(tokenizer)} tokens, but its model has "
            f"{network.config.vocab_size}. Use the tokenizer that the model was trained with."
        )
    network.config.pad_token_id = tokenizer.pad_token_id
    network = _add_adapter(network, adapter, settings, base) if settings.lora_rank else _merge_adapter(network, adapter)
    return _add_residual_dropout(network, settings.residual_dropout), tokenizer


def _texts(corpus: TrainingCorpus) -> list[str]:
    return [plain_text(text) for text in (*corpus.human, *corpus.synthetic)]


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
    """Return the attention implementation: on a CPU, with short contexts, eager is faster than the fused kernel."""
    return "eager" if 0 < settings.context_length <= 128 and not torch.cuda.is_available() else "sdpa"


def _load_base(model: str, settings: TransformerTraining) -> PreTrainedModel:
    try:
        shape = AutoConfig.from_pretrained(model, trust_remote_code=False)
        kind = (
            LlamaWithChunkedLoss
            if settings.chunked_cross_entropy and type(shape) is LlamaConfig
            else AutoModelForCausalLM
        )
        network = kind.from_pretrained(
            model,
            dtype=torch.float32,
            attn_implementation=_attention(settings),
            trust_remote_code=False,
            **_attention_dropout(shape, settings.dropout),
            **_quantization(settings),
        )
    except (OSError, ValueError, KeyError) as error:
        raise HeirloomError(
            f"Cannot load a model from {model}: {one_line(error)}. Use a folder with config.json and weights, or the "
            "name of a model on the Hugging Face hub."
        ) from error
    longest = getattr(network.config, "max_position_embeddings", settings.context_length)
    if settings.context_length > longest:
        raise HeirloomError(
            f"train.context_length is {settings.context_length}, but the maximum of {model} is {longest} tokens. Lower "
            "it."
        )
    if settings.dropout and not _attention_dropout(shape, settings.dropout):
        raise HeirloomError(f"train.dropout is {settings.dropout}, but {model} has no attention dropout. Unset it.")
    return network


def _quantization(settings: TransformerTraining) -> dict[str, BitsAndBytesConfig]:
    """Return how the frozen base of QLoRA is stored: 4-bit NormalFloat with quantized constants (arXiv:2305.14314)."""
    if settings.preset != "qlora":
        return {}
    config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": config}


def _attention_dropout(shape: PretrainedConfig, share: float) -> dict[str, float]:
    """Return the attention dropout under the name that this model type has for it; empty if it has none."""
    return {name: share for name in ("attention_dropout", "attn_pdrop") if hasattr(shape, name)}


def _add_residual_dropout(network: PreTrainedModel, share: float) -> PreTrainedModel:
    """Add dropout to the outputs of attention and feed-forward layers, by hooks, which are not saved with the model."""

    def drop(module: torch.nn.Module, _: object, added: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.dropout(added, share, module.training)

    if not share:
        return network
    outputs = [module for name, module in network.named_modules() if name.endswith(_RESIDUAL_OUTPUTS)]
    if not outputs:
        known = ", ".join(name.removeprefix(".") for name in _RESIDUAL_OUTPUTS)
        raise HeirloomError(
            f"train.residual_dropout is {share}, but {type(network).__name__} has no {known}. Unset it."
        )
    for module in outputs:
        module.register_forward_hook(drop)
    return network


def _add_adapter(
    network: PreTrainedModel, adapter: Path | None, settings: TransformerTraining, base: str
) -> PreTrainedModel:
    from peft import LoraConfig, PeftModel, TaskType, get_peft_model

    if adapter and settings.save_adapter_only:
        config = LoraConfig.from_pretrained(adapter)
        if (config.r, config.lora_alpha) != (settings.lora_rank, settings.lora_alpha):
            raise HeirloomError(
                f"train.lora_rank is {settings.lora_rank} and train.lora_alpha is {settings.lora_alpha}, but the "
                f"adapter {adapter} has {config.r} and {config.lora_alpha}. Use these, or set train.save_adapter_only "
                "= false, which trains a new adapter."
            )
        config.lora_dropout = settings.dropout
        return PeftModel.from_pretrained(network, adapter, is_trainable=True, config=config)
    config = LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        task_type=TaskType.CAUSAL_LM,
        base_model_name_or_path=base,
    )
    return get_peft_model(_merge_adapter(network, adapter), config)


def _merge_adapter(network: PreTrainedModel, adapter: Path | None) -> PreTrainedModel:
    if not adapter:
        return network
    from peft import PeftModel

    return PeftModel.from_pretrained(network, adapter).merge_and_unload()


def _require_same_tokenizer(
    tokenizer: PreTrainedTokenizerFast, initial_weights: Path | str, gen0_model: Path | None
) -> None:
    if gen0_model and _tokenizer_hash(tokenizer) != _tokenizer_hash(load_tokenizer(gen0_model)):
        raise HeirloomError(
            f"Vocabulary mismatch: {initial_weights} has another tokenizer than the model of generation 0, "
            f"{gen0_model}. All models of a run have one vocabulary. Start a new run for another base model."
        )


def _tokenizer_hash(tokenizer: PreTrainedTokenizerFast) -> str:
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
