"""Settings of all trainers: `[train]` of the recipe, one class for each backend."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, ModelWrapValidatorHandler, model_validator

from heirloom.errors import HeirloomError
from heirloom.settings import Settings
from tasks.backends.settings.presets import ADAPTER_PRESETS, Preset, choose_preset, preset_values


class TransformerTraining(Settings):
    """`[train]` with `backend = "transformer"`: a causal language model, from scratch or from existing weights."""

    backend: Literal["transformer"] = "transformer"
    preset: Preset = Field(
        "scratch-small",
        exclude_if=lambda preset: preset == "scratch-small",
        description="Published defaults for what is trained; explicit settings win, and `heirloom plan` shows the "
        "values. `scratch-small`: a model of some million weights, from scratch. `pretrain`: documents, from scratch "
        "or continued. `full-finetune`, `lora`, `qlora` (needs bitsandbytes): a pretrained model. Without it: "
        "`full-finetune` if `base_model` is set, or `lora` if `lora_rank` is too; else `scratch-small`.",
    )
    objective: Literal["lm", "sft", "dpo"] = Field(
        "lm",
        description="Training objective. `lm`: every token of the records. `sft`: the responses of conversations and "
        "of prompted records. `dpo`: preferences between two responses.",
    )
    init_from: Literal["scratch", "base", "previous"] = Field(
        "scratch",
        description="Initial weights. `scratch`: random. `base`: the base model. `previous`: the previous generation's "
        "model; generation 0 then starts from `base_model` if one is set, else from scratch.",
    )
    base_model: str = Field(
        "",
        description="Base model: a folder, `smollm2` (SmolLM2-135M-Instruct from a Python package), or a name on the "
        "Hugging Face Hub. Empty: `init_from = 'base'` pre-trains one on the human data, once.",
    )
    base_max_steps: int = Field(130, ge=1, description="Optimizer steps for pre-training the base model.")
    max_steps: int = Field(260, ge=1, description="Optimizer steps of every training after generation 0.")
    generation_0_max_steps: int = Field(
        130,
        ge=0,
        description="Optimizer steps of generation 0, which trains on human text alone. 0: generation 0 is "
        "`base_model` as it is.",
    )
    num_epochs: float | None = Field(None, gt=0, description="Passes over the corpus, in place of steps.")
    max_tokens: int | None = Field(None, ge=1, description="Number of training tokens, in place of steps.")
    human_ratio_schedule: Literal["constant", "ramp"] = Field(
        "constant",
        description="Share of human tokens over a training. `constant`: that of the corpus. `ramp`: from 0 to 1.",
    )
    load_best_model_at_end: bool = Field(
        False, description="Keep the weights with the lowest held-out loss instead of the last ones."
    )
    hidden_size: int = Field(128, ge=32, description="Width of the model.")
    num_hidden_layers: int = Field(2, ge=1, description="Number of transformer layers.")
    num_attention_heads: int = Field(
        4,
        ge=1,
        description="Number of attention heads. hidden_size / heads must be a size that vLLM supports: 32, 64, 80, 96, "
        "128, ...",
    )
    context_length: int = Field(
        128, ge=0, description="Maximum sequence length in tokens, at least 16. 0: that of the base model."
    )
    vocab_size: int = Field(
        2048, ge=300, description="Size of the byte-level BPE vocabulary, which is trained on the human data."
    )
    batch_size: int = Field(8, ge=1, description="Sequences in one optimizer step.")
    packing: bool = Field(True, description="Fill every sequence with records. false: one record a sequence.")
    optimizer: Literal["muon", "adamw"] = Field(
        "muon",
        description="`muon`: Muon for the weight matrices and AdamW for the rest, for small models. `adamw`: AdamW for "
        "everything.",
    )
    learning_rate: float = Field(
        0.02, gt=0, description="Peak learning rate of Muon, or of AdamW with `optimizer = 'adamw'`."
    )
    embedding_learning_rate: float = Field(
        0.003, gt=0, description="Peak learning rate of AdamW for all that Muon does not train."
    )
    lr_scheduler: Literal["linear", "cosine", "constant"] = Field(
        "constant",
        description="Decay of the learning rate after the warm-up. The other defaults were tuned for `constant`.",
    )
    warmup_ratio: float = Field(
        0.0, ge=0, lt=1, description="Share of the steps in which the learning rate rises from 0."
    )
    weight_decay: float = Field(0.3, ge=0, description="Decoupled weight decay.")
    adam_beta2: float = Field(
        0.95,
        gt=0,
        lt=1,
        exclude_if=lambda beta2: beta2 == 0.95,
        description="Decay of AdamW's mean of squared gradients.",
    )
    max_grad_norm: float = Field(
        1.0, gt=0, exclude_if=lambda norm: norm == 1.0, description="Norm to which gradients are clipped."
    )
    weight_averaging_fraction: float = Field(
        0.0,
        ge=0,
        le=1,
        # Left out of dumps at its default, so that fingerprints of older artifacts stay valid.
        exclude_if=lambda share: not share,
        description="Share of the steps, counted from the end, whose weights are averaged. 0: the last weights.",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on attention weights.")
    residual_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        exclude_if=lambda share: not share,
        description="Dropout on the outputs of attention and feed-forward layers, for models with `o_proj` and "
        "`down_proj`.",
    )
    lora_rank: int = Field(0, ge=0, description="Rank of the LoRA adapter. 0: train all weights.")
    lora_alpha: int = Field(16, gt=0, description="Scale of the LoRA adapter; it is divided by the rank.")
    save_adapter_only: bool = Field(False, description="Store the adapter alone instead of merging it into its base.")
    dpo_beta: float = Field(
        0.1, gt=0, description="Weight of the KL penalty that keeps DPO close to its initial model."
    )
    preference_source: Literal["human", "best-of-k"] = Field(
        "human",
        description="Source of DPO's pairs. `human`: conversations with a turn of role `rejected`. `best-of-k`: the "
        "best and the worst candidate of each prompt; generation 0, which has no candidates, then trains with `lm`.",
    )
    preference_score: Literal["likelihood", "length", "lexical_diversity"] = Field(
        "likelihood", description="Score that ranks the candidates of a prompt."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Data type of training. `auto`: bfloat16 if the hardware supports it, else float32."
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass instead of storing them."
    )
    chunked_cross_entropy: bool = Field(
        True,
        description="Compute the loss of Llama models in chunks, which needs less memory. false: the library's loss.",
    )

    @model_validator(mode="wrap")
    @classmethod
    def _apply_preset(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:  # noqa: ANN401  (pydantic's input)
        if not isinstance(data, dict):
            return handler(data)
        preset = choose_preset(data)
        settings = handler({**preset_values(preset, data), **data, "preset": preset})
        # Values of a preset are defaults: only what the user has set is checked against the recipe of an existing run.
        settings.__pydantic_fields_set__.intersection_update(data)
        return settings

    @property
    def preset_fields(self) -> frozenset[str]:
        """Names of the settings that have the value of the preset, in place of their own default."""
        values = preset_values(self.preset, {"objective": self.objective})
        return frozenset(name for name, value in values.items() if getattr(self, name) == value)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for violated, message in self._contradictions():
            if violated:
                raise HeirloomError(message)
        return self

    def _contradictions(self) -> list[tuple[bool, str]]:
        lora, dpo = bool(self.lora_rank), self.objective == "dpo"
        return [
            *self._contradictions_of_preset(),
            (
                not self.base_model and self.hidden_size % (2 * self.num_attention_heads) != 0,
                (
                    f"train.hidden_size is {self.hidden_size}, which must be an even multiple of "
                    f"train.num_attention_heads ({self.num_attention_heads})."
                ),
            ),
            (
                not self.generation_0_max_steps and not self.base_model,
                (
                    "train.generation_0_max_steps is 0, so generation 0 is the base model as it is, but "
                    "train.base_model is not set."
                ),
            ),
            (
                bool(self.num_epochs and self.max_tokens),
                "train.num_epochs and train.max_tokens are both set. Set one of them.",
            ),
            (
                bool(self.base_model) and self.init_from == "scratch",
                (
                    "train.base_model is set, but train.init_from is 'scratch'. Set train.init_from "
                    "to 'base' or 'previous'."
                ),
            ),
            (
                lora and self.init_from == "scratch",
                (
                    "train.lora_rank is set, but train.init_from is 'scratch'. Set train.init_from "
                    "to 'base' or 'previous'."
                ),
            ),
            (
                self.save_adapter_only and not lora,
                "train.save_adapter_only is set, but train.lora_rank is 0. Set a rank.",
            ),
            (
                dpo and self.init_from == "scratch",
                "train.objective is 'dpo', but train.init_from is 'scratch'. Set it to 'base' or 'previous'.",
            ),
            (
                bool(self.weight_averaging_fraction) and self.load_best_model_at_end,
                "train.weight_averaging_fraction and train.load_best_model_at_end are both set. Set one of them.",
            ),
            (
                dpo and self.load_best_model_at_end,
                "train.load_best_model_at_end compares held-out losses, which DPO does not lower. Unset it.",
            ),
            (
                dpo and self.human_ratio_schedule == "ramp",
                "train.human_ratio_schedule = 'ramp' is for 'lm' and 'sft': DPO shuffles its pairs. Unset it.",
            ),
            (
                (lora or dpo) and self.optimizer == "muon",
                (
                    "train.optimizer is 'muon', which does not work with LoRA or DPO. Set train.optimizer = 'adamw' "
                    "and a learning rate for it."
                ),
            ),
            (
                self.optimizer == "adamw" and self.learning_rate >= 0.02,
                (
                    f"train.learning_rate is {self.learning_rate}, which is too high for AdamW. Set about 0.001 from "
                    "scratch, and less from a base model."
                ),
            ),
        ]

    def _contradictions_of_preset(self) -> list[tuple[bool, str]]:
        is_adapter, has_base = self.preset in ADAPTER_PRESETS, bool(self.base_model)
        return [
            (
                self.preset not in ("scratch-small", "pretrain") and self.init_from == "scratch",
                (
                    f"train.preset is {self.preset!r}, which trains existing weights, but train.init_from is "
                    "'scratch'. Set it to 'base' or 'previous'."
                ),
            ),
            (
                is_adapter and not self.lora_rank,
                (
                    f"train.preset is {self.preset!r}, but train.lora_rank is 0. Set a rank, or "
                    "train.preset = 'full-finetune'."
                ),
            ),
            (
                self.preset == "full-finetune" and bool(self.lora_rank),
                "train.preset is 'full-finetune', but train.lora_rank is set. Set train.preset = 'lora'.",
            ),
            (
                self.preset == "qlora" and not self.save_adapter_only,
                (
                    "train.preset is 'qlora', whose base model has 4 bits, so its adapter is not merged. Set "
                    "train.save_adapter_only = true."
                ),
            ),
            (
                0 < self.context_length < 16,
                f"train.context_length is {self.context_length}. Set at least 16, or 0 for that of the base model.",
            ),
            (
                not self.context_length and (not has_base or self.init_from == "scratch"),
                (
                    "train.context_length is 0, which means that of the base model, but train.base_model or "
                    "train.init_from names none. Set a length."
                ),
            ),
        ]


class NgramTraining(Settings):
    """`[train]` with `backend = "ngram"`: counts of word n-grams, for tests and demonstrations."""

    backend: Literal["ngram"] = "ngram"
    order: int = Field(3, ge=1, le=5, description="Length of the longest counted n-gram, in words.")


class GaussianMixtureTraining(Settings):
    """`[train]` with `backend = "gaussian-mixture"`: a Gaussian mixture of points, given as texts of numbers."""

    backend: Literal["gaussian-mixture"] = "gaussian-mixture"
    num_components: int = Field(2, ge=1, description="Number of Gaussians, each with a full covariance matrix.")


class VaeTraining(Settings):
    """`[train]` with `backend = "vae"`: a small variational autoencoder of points, given as texts of numbers."""

    backend: Literal["vae"] = "vae"
    latent_size: int = Field(8, ge=1, description="Dimensions of the latent space.")
    hidden_size: int = Field(128, ge=1, description="Width of the encoder and of the decoder.")
    max_steps: int = Field(2000, ge=1, description="Optimizer steps of every training.")
    batch_size: int = Field(128, ge=1, description="Points in one optimizer step.")
    learning_rate: float = Field(
        0.002, gt=0, description="Initial learning rate of AdamW, which decays linearly to 1 % of it."
    )


PointTraining = GaussianMixtureTraining | VaeTraining
"""Backends of points, which are represented as texts of numbers."""
ToyTraining = NgramTraining | PointTraining
"""Backends that train in seconds, and sample their own models."""


def _with_backend(value: object) -> object:
    return {"backend": "transformer", **value} if isinstance(value, dict) else value


Training = Annotated[TransformerTraining | ToyTraining, Field(discriminator="backend"), BeforeValidator(_with_backend)]
