"""How a model learns: the settings of every trainer, and what they ask of each other."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from heirloom.errors import HeirloomError
from tasks.backends.settings.base import Settings


class TransformerTraining(Settings):
    """`[train]` with `backend = "transformer"`: a causal language model, from scratch or from one that is there."""

    backend: Literal["transformer"] = "transformer"
    objective: Literal["lm", "sft", "dpo"] = Field(
        "lm",
        description="what is learned: every token of the records; the responses of conversations and prompted records; "
        "or to prefer one response to another",
    )
    init_from: Literal["scratch", "base", "previous"] = Field(
        "scratch",
        description="what each training starts from: nothing; the base model; the previous generation's model, where "
        "generation 0 starts from the base if one is named and else from scratch",
    )
    base_model: str = Field(
        "",
        description="folder or name of the base model; without it, init_from `base` pre-trains one from the reserve, once",
    )
    base_max_steps: int = Field(130, ge=1, description="optimiser steps of a base that is pre-trained from the reserve")
    max_steps: int = Field(260, ge=1, description="optimiser steps of every training after generation 0")
    generation_0_max_steps: int = Field(
        130, ge=1, description="optimiser steps of generation 0, which sees human text alone"
    )
    num_epochs: float | None = Field(None, gt=0, description="passes over the corpus, in the place of steps")
    max_tokens: int | None = Field(None, ge=1, description="tokens a training sees, in the place of steps")
    human_ratio_schedule: Literal["constant", "ramp"] = Field(
        "constant", description="how the human share of training tokens runs: as the corpus has it, or from none to all"
    )
    load_best_model_at_end: bool = Field(
        False, description="keep the model of the best held-out loss instead of the last one"
    )
    hidden_size: int = Field(128, ge=32, description="width of the model")
    num_hidden_layers: int = Field(2, ge=1, description="number of blocks")
    num_attention_heads: int = Field(
        4, ge=1, description="attention heads; hidden / heads must suit vLLM (32, 64, 80, 96, 128, ...)"
    )
    context_length: int = Field(128, ge=16, description="tokens a model sees at once")
    vocab_size: int = Field(2048, ge=300, description="size of the byte-level BPE learned from the reserve")
    batch_size: int = Field(8, ge=1, description="packed sequences in a step")
    packing: bool = Field(True, description="fill every sequence with records; false gives each record its own")
    optimizer: Literal["muon", "adamw"] = Field(
        "muon", description="Muon on the matrices and AdamW on the rest, for small models; or AdamW on everything"
    )
    learning_rate: float = Field(0.02, gt=0, description="peak learning rate of Muon on the matrices, or of AdamW")
    embedding_learning_rate: float = Field(
        0.003, gt=0, description="beside Muon, peak learning rate of AdamW on everything else"
    )
    lr_scheduler: Literal["linear", "cosine", "constant"] = Field(
        "constant",
        description="how the learning rate falls after its warm-up; the other defaults were found with one that does not",
    )
    warmup_ratio: float = Field(0.0, ge=0, lt=1, description="share of the steps in which the learning rate rises")
    weight_decay: float = Field(0.3, ge=0, description="decoupled weight decay")
    weight_averaging_fraction: float = Field(
        0.0,
        ge=0,
        le=1,
        # It came later, as the next did: where it is not set, a training is what it was before.
        exclude_if=lambda share: not share,
        description="share of the steps, the last ones, over which weights are averaged into the model; 0 takes the last weights",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on attention weights")
    residual_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        exclude_if=lambda share: not share,
        description="dropout on what attention and feed-forward layers add; for models with `o_proj` and `down_proj`, as Llama's",
    )
    lora_rank: int = Field(0, ge=0, description="rank of the low-rank adapter that is trained; 0 trains every weight")
    lora_alpha: int = Field(16, gt=0, description="scale of the adapter, divided by its rank")
    save_adapter_only: bool = Field(False, description="keep the adapter as it is instead of merging it into its base")
    dpo_beta: float = Field(0.1, gt=0, description="how strongly DPO holds to the model it starts from")
    preference_source: Literal["human", "best-of-k"] = Field(
        "human",
        description="where DPO's pairs come from: conversations with a turn of role `rejected`; or the best and the "
        "worst of the candidates with one prompt, where generation 0, which has none, learns text",
    )
    preference_score: Literal["likelihood", "length", "lexical_diversity"] = Field(
        "likelihood", description="what makes one of k candidates the best"
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="arithmetic of training; auto takes bfloat16 where the core has it"
    )
    gradient_checkpointing: bool = Field(False, description="compute activations twice instead of keeping them")
    chunked_cross_entropy: bool = Field(
        True, description="compute the loss of Llama-shaped models slice by slice; false is the library's own loss"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for wrong, said in self._contradictions():
            if wrong:
                raise HeirloomError(said)
        return self

    def _contradictions(self) -> list[tuple[bool, str]]:
        lora, dpo = bool(self.lora_rank), self.objective == "dpo"
        return [
            (
                not self.base_model and self.hidden_size % (2 * self.num_attention_heads) != 0,
                f"train.hidden_size {self.hidden_size} must be an even multiple of train.num_attention_heads {self.num_attention_heads}",
            ),
            (bool(self.num_epochs and self.max_tokens), "train.num_epochs and train.max_tokens exclude each other"),
            (
                bool(self.base_model) and self.init_from == "scratch",
                "train.base_model is named, and train.init_from is 'scratch'",
            ),
            (
                lora and self.init_from == "scratch",
                "an adapter needs a model below it: set train.init_from to base or previous",
            ),
            (
                self.save_adapter_only and not lora,
                "train.save_adapter_only keeps a LoRA adapter, and train.lora_rank is 0",
            ),
            (dpo and self.init_from == "scratch", "DPO starts from a model that can speak: set train.init_from"),
            (
                bool(self.weight_averaging_fraction) and self.load_best_model_at_end,
                "train.weight_averaging_fraction ends with a mean of weights and train.load_best_model_at_end with the best ones: set one of them",
            ),
            (
                dpo and self.load_best_model_at_end,
                "train.load_best_model_at_end watches the loss on held-out text, which DPO does not lower",
            ),
            (
                dpo and self.human_ratio_schedule == "ramp",
                "train.human_ratio_schedule is for lm and sft: DPO learns its pairs in an order that the seed draws",
            ),
            (
                (lora or dpo) and self.optimizer == "muon",
                "Muon is for whole models and next-token loss: with LoRA or DPO set train.optimizer = 'adamw' and its learning_rate",
            ),
            (
                self.optimizer == "adamw" and self.learning_rate >= 0.02,
                f"train.learning_rate {self.learning_rate} suits Muon; AdamW wants 0.001 or so from scratch, less from a base",
            ),
        ]


class NgramTraining(Settings):
    """`[train]` with `backend = "ngram"`: counts words; learns in a second, collapses in five generations."""

    backend: Literal["ngram"] = "ngram"
    order: int = Field(3, ge=1, le=5, description="words in the longest run that is counted")


class GaussianMixtureTraining(Settings):
    """`[train]` with `backend = "gaussian-mixture"`: fits points, texts of as many numbers each; what theory speaks of."""

    backend: Literal["gaussian-mixture"] = "gaussian-mixture"
    num_components: int = Field(2, ge=1, description="Gaussians in the mixture; each has a covariance of its own")


class VaeTraining(Settings):
    """`[train]` with `backend = "vae"`: a small variational autoencoder of points, as of pictures given by their pixels."""

    backend: Literal["vae"] = "vae"
    latent_size: int = Field(8, ge=1, description="numbers that a point is told by inside")
    hidden_size: int = Field(128, ge=1, description="width of the encoder and of the decoder")
    max_steps: int = Field(2000, ge=1, description="optimiser steps of every training")
    batch_size: int = Field(128, ge=1, description="points in a step")
    learning_rate: float = Field(0.002, gt=0, description="peak learning rate of AdamW, which falls to nothing")


PointTraining = GaussianMixtureTraining | VaeTraining
"""Learns points, which travel as texts of numbers."""
ToyTraining = NgramTraining | PointTraining
"""Learns in seconds, and speaks for its models itself."""
Training = Annotated[TransformerTraining | ToyTraining, Field(discriminator="backend")]
