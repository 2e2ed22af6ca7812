"""Settings of all samplers: `[generate]` of the recipe."""

import json
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from heirloom.errors import HeirloomError
from heirloom.settings import TABLE_AS_JSON, TABLE_AS_PAIRS, Settings
from tasks.backends.settings.json_schema import validate_json_schema

SELF_TEACHER = "self"
"""Name of the generation's own model among `generate.teachers`."""


class Sampling(Settings):
    """`[generate]`: how a model is sampled. Parameters have vLLM's names and meanings. Each candidate has a seed."""

    sampler: Literal["auto", "vllm", "server", "transformers", "ngram", "gaussian-mixture", "vae"] = Field(
        "auto",
        description="Inference engine for the generation's model: vLLM's engine, a server, transformers, or the toy "
        "backend that trained it. `auto`: vLLM if installed, else transformers; resolved once a run.",
    )
    teacher: str = Field(
        "",
        description="Name of a model that generates the candidates in place of the generation's own: served by "
        "`resources.server_urls`, or one of `resources.local_models`. Without servers also `smollm2`, a folder, or a "
        "name on the Hugging Face Hub, `owner/model`.",
    )
    teachers: tuple[str, ...] = Field(
        (),
        description="Names of several teachers, with `self` for the generation's own model. Each candidate records its "
        "teacher.",
    )
    teacher_routing: Literal["fixed", "reward", "routed"] = Field(
        "fixed",
        description="Which teacher gets a prompt. `fixed`: that of `teacher_map`, else all equally often. `reward`: "
        "every teacher, and the filter `best_of` keeps the best completion. `routed`: chosen by the `best_of` scores "
        "of earlier generations.",
    )
    teacher_map: Annotated[tuple[tuple[str, str], ...], TABLE_AS_PAIRS] = Field(
        (),
        description="Source of a record, or value of an attribute, and the teacher that gets its prompts, for "
        "`teacher_routing = 'fixed'`: a table, `{letters = 'wise'}`.",
    )
    teacher_api: Literal["auto", "completions", "chat"] = Field(
        "auto",
        description="API of teachers on servers: `completions` continues the prompt, `chat` sends it as messages. "
        "`auto`: `chat` for conversations, `completions` for texts.",
    )
    use_chat_template: bool = Field(
        False,
        description="Send every prompt as a user message in the chat template of the model, as instruct models expect "
        "it. Conversations always are.",
    )
    reasoning_parser: str = Field(
        "",
        description="vLLM's parser that separates the reasoning of a thinking model from its response, such as `qwen3` "
        "or `deepseek_r1`. Reasoning that a server separates is read without it.",
    )
    temperature: float = Field(
        1.0, gt=0, description="Sampling temperature. Below 1 sharpens the distribution and loses rare tokens."
    )
    top_p: float = Field(
        1.0, gt=0, le=1, description="Nucleus sampling: probability of the smallest set of tokens to sample from."
    )
    top_k: int = Field(0, ge=0, description="Number of most likely tokens to sample from. 0: all.")
    min_p: float = Field(
        0.0, ge=0, le=1, description="Minimum probability of a token, relative to the most likely one."
    )
    presence_penalty: float = Field(
        0.0, ge=-2, le=2, description="Subtracted from the logit of each token that was generated."
    )
    frequency_penalty: float = Field(
        0.0, ge=-2, le=2, description="Subtracted from the logit of a token for each time that it was generated."
    )
    repetition_penalty: float = Field(
        1.0, gt=0, description="Divides the logit of each token in the prompt or completion. 1: no penalty."
    )
    max_tokens: int = Field(120, ge=1, description="Maximum number of tokens of a completion.")
    min_tokens: int = Field(0, ge=0, description="Minimum number of tokens before the end token or a stop string.")
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="Strings that end a completion. They are not part of it."
    )
    beam_width: int = Field(
        1, ge=1, description="Number of beams. 1 samples; above 1 runs a deterministic beam search."
    )
    json_schema: str = Field(
        "",
        description="JSON schema of the completions, as a table or text. One that violates it has finish reason "
        "`invalid_json`.",
    )
    json_retries: int = Field(
        2,
        ge=0,
        exclude_if=lambda number: number == 2,
        description="How often a prompt is sampled again, with another seed, if the completion violates `json_schema`.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Data type of the weights and activations. `auto`: that of the model's files."
    )
    quantization: str = Field(
        "",
        # Left out of dumps at its default, so that fingerprints of older artifacts stay valid.
        exclude_if=lambda name: not name,
        description="Quantization of the weights by vLLM, such as `fp8`. Empty: as the model's files are.",
    )
    speculative_config: Annotated[str, *TABLE_AS_JSON] = Field(
        "",
        exclude_if=lambda table: not table,
        description="vLLM's table for speculative decoding, `{method = 'ngram', num_speculative_tokens = 4, "
        "prompt_lookup_max = 4}`. "
        "It keeps the distribution of completions, not the completions of a seed.",
    )

    @field_validator("json_schema", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return json.dumps(value) if isinstance(value, dict) else value

    @field_validator("json_schema")
    @classmethod
    def _is_a_schema(cls, value: str) -> str:
        return validate_json_schema(value) if value else ""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.min_tokens > self.max_tokens:
            raise HeirloomError(
                f"min_tokens is {self.min_tokens}, but max_tokens is {self.max_tokens}. Lower min_tokens."
            )
        fields = type(self).model_fields
        stochastic = [name for name in _SAMPLING_ONLY if getattr(self, name) != fields[name].default]
        if self.beam_width > 1 and stochastic:
            raise HeirloomError(
                f"beam_width is {self.beam_width}, and a beam search is deterministic. Leave out "
                f"{', '.join(stochastic)}."
            )
        return self

    @model_validator(mode="after")
    def _has_teachers(self) -> Self:
        if self.teachers and (self.teacher or len(set(self.teachers)) < max(2, len(self.teachers))):
            raise HeirloomError(
                "generate.teachers must have two or more different names, and excludes generate.teacher."
            )
        if (self.teacher_map or self.teacher_routing != "fixed") and not self.teachers:
            raise HeirloomError(
                "teacher_map and teacher_routing need several teachers. Name them in generate.teachers."
            )
        if self.teacher_map and self.teacher_routing != "fixed":
            raise HeirloomError(f"teacher_map needs teacher_routing = 'fixed', not {self.teacher_routing!r}.")
        if unknown := sorted({name for _, name in self.teacher_map} - set(self.teachers)):
            raise HeirloomError(
                f"teacher_map has the teacher {unknown[0]!r}, but the teachers are {', '.join(self.teachers)}."
            )
        return self

    @property
    def without_teacher(self) -> "Sampling":
        """The same settings for the generation's own model, without a teacher."""
        return self.for_teacher("")

    @property
    def model_names(self) -> tuple[str, ...]:
        """Names of all models that generate; the empty string stands for the generation's own."""
        return tuple("" if name == SELF_TEACHER else name for name in self.teachers) or (self.teacher,)

    def for_teacher(self, teacher: str) -> "Sampling":
        """Return the same settings for one teacher; the empty name stands for the generation's own model."""
        return self.model_copy(
            update={"teacher": teacher, "teachers": (), "teacher_routing": "fixed", "teacher_map": ()}
        )


_SAMPLING_ONLY = (
    *("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty"),
    *("stop", "json_schema"),
)
"""Settings that have no meaning in a beam search."""
