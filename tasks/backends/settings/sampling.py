"""How a model is made to speak, and where: the settings of every sampler, and of the site that it works at."""

import json
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from heirloom.errors import HeirloomError
from tasks.backends.settings.base import Settings

# Settings are keys of caches, which a dictionary cannot be.
_PAIRS = BeforeValidator(lambda value: tuple(sorted(value.items())) if isinstance(value, dict) else value)


SELF_TEACHER = "self"
"""What the generation's own model is called among teachers."""


class Sampling(Settings):
    """`[generate]`: how a model is made to speak. Names and meanings are vLLM's; a candidate is a request with its own seed."""

    sampler: Literal["auto", "vllm", "server", "transformers", "ngram", "gaussian-mixture", "vae"] = Field(
        "auto",
        description="who speaks for the generation's model: vLLM's engine, a server, transformers, or a toy for its own models; "
        "auto takes vLLM where it is installed, and is resolved once a run",
    )
    teacher: str = Field(
        "",
        description="name of a model of the site that writes the candidates in the place of the generation's own: one that "
        "`resources.server_urls` serve, or one of `resources.local_models`",
    )
    teachers: tuple[str, ...] = Field(
        (),
        description="names of several such models, and `self` for the generation's own; each candidate records its teacher",
    )
    teacher_routing: Literal["fixed", "reward", "routed"] = Field(
        "fixed",
        description="which teacher gets a prompt: fixed, the one of `teacher_map`, else all alike; reward, every one, and the sieve "
        "best_of keeps the best answer; routed, by what best_of found their answers to be worth in earlier generations",
    )
    teacher_map: Annotated[tuple[tuple[str, str], ...], _PAIRS] = Field(
        (),
        description="teacher_routing fixed: source of the record, or value of an attribute, to the teacher who gets its prompts: a "
        "table, `{letters = 'wise'}`",
    )
    teacher_api: Literal["completions", "chat"] = Field(
        "completions", description="how teachers on servers are asked: a text to go on with, or the message of a user"
    )
    temperature: float = Field(1.0, gt=0, description="below 1 favours what is likely, and starves the tail")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus: the smallest set of tokens with this probability")
    top_k: int = Field(0, ge=0, description="only the k likeliest tokens; 0 takes all")
    min_p: float = Field(0.0, ge=0, le=1, description="only tokens at least this likely relative to the likeliest")
    presence_penalty: float = Field(0.0, ge=-2, le=2, description="taken off the logit of a token that was said")
    frequency_penalty: float = Field(0.0, ge=-2, le=2, description="the same, for each time that it was said")
    repetition_penalty: float = Field(
        1.0, gt=0, description="divides the logit of a token that is in the prompt or was said; 1 does nothing"
    )
    max_tokens: int = Field(120, ge=1, description="longest completion")
    min_tokens: int = Field(0, ge=0, description="no end, and no stop, before this many tokens")
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = Field(
        (), description="strings that end a completion; they are cut off"
    )
    beam_width: int = Field(
        1, ge=1, description="above 1, the likeliest text that a search with so many beams finds; throws no dice"
    )
    json_schema: str = Field(
        "",
        description="JSON schema, as a table or as text, that completions are held to; one that breaks it is marked `invalid_json`",
    )
    dtype: Literal["float32", "bfloat16"] = Field("float32", description="arithmetic of the sampler")

    @field_validator("json_schema", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return json.dumps(value) if isinstance(value, dict) else value

    @field_validator("json_schema")
    @classmethod
    def _is_a_schema(cls, value: str) -> str:
        from tasks.backends.settings.json_schema import validate_json_schema

        return validate_json_schema(value) if value else ""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.min_tokens > self.max_tokens:
            raise HeirloomError(f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}")
        dice = {
            name: getattr(self, name) for name in _DICE if getattr(self, name) != type(self).model_fields[name].default
        }
        if self.beam_width > 1 and dice:
            raise HeirloomError(
                f"a search with beam_width {self.beam_width} throws no dice; leave out {', '.join(dice)}"
            )
        return self

    @model_validator(mode="after")
    def _has_teachers(self) -> Self:
        if self.teachers and (self.teacher or len(set(self.teachers)) < max(2, len(self.teachers))):
            raise HeirloomError("teachers are two or more, each once, and stand in the place of teacher")
        if (self.teacher_map or self.teacher_routing != "fixed") and not self.teachers:
            raise HeirloomError(
                "teacher_map and teacher_routing belong to several teachers; name them as generate.teachers"
            )
        if self.teacher_map and self.teacher_routing != "fixed":
            raise HeirloomError(f"teacher_map belongs to teacher_routing 'fixed', not {self.teacher_routing!r}")
        if unknown := sorted({name for _, name in self.teacher_map} - set(self.teachers)):
            raise HeirloomError(f"teacher_map names {unknown[0]!r}, and the teachers are {', '.join(self.teachers)}")
        return self

    @property
    def without_teacher(self) -> "Sampling":
        """The same without a teacher: how the generation's own model is made to speak."""
        return self.for_teacher("")

    @property
    def model_names(self) -> tuple[str, ...]:
        """Everybody who is asked, by name; the generation's own model has none."""
        return tuple("" if name == SELF_TEACHER else name for name in self.teachers) or (self.teacher,)

    def for_teacher(self, teacher: str) -> "Sampling":
        """How this one teacher is made to speak; the generation's own model where it has no name."""
        return self.model_copy(
            update={"teacher": teacher, "teachers": (), "teacher_routing": "fixed", "teacher_map": ()}
        )


_DICE = (
    *("temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty"),
    *("stop", "json_schema"),
)
"""Settings that mean something only where tokens are drawn one by one."""
