"""The recipe says what is made, the site says where: load them, override them, resolve them.

Every value that changes a result is in the recipe. Nothing here imports Prefect, torch or vLLM, so reading
or checking a recipe takes a fraction of a second.
"""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.budget import BudgetSettings
from curation.gates import GateSettings
from curation.metrics.settings import MeasureSettings
from curation.mixing import MixSettings
from curation.pipeline import CurateSettings
from curation.prompts.plan import PromptSettings
from curation.review import ReviewSettings
from tasks.backends import PointTraining, Sampling, Training, TransformerTraining
from tasks.backends.registry import require_installed, resolve_sampler

GROWING = {"generations", "question", "budget", "review"}
"""Fields of a recipe that may change on an existing run: how far to go, what it may cost, who is asked, and the words about it."""


_BACKENDS = ("transformer", "ngram", "gaussian-mixture", "vae")
"""What pydantic puts into the path of a fault in `[train]`, and nobody wrote."""


class Recipe(BaseModel):
    """What is made. A run is one execution of one recipe, in a folder of the recipe's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="name of the run")
    question: str = Field("", description="what this recipe is meant to find out, in one sentence")
    human: str = Field("python-docs", description="name of the ingested human text")
    seed: int = Field(0, ge=0, description="all dice follow from it")
    generations: int = Field(5, ge=0, description="how far to go; 0 stops after the model of human text alone")
    prompts: PromptSettings = PromptSettings()
    generate: Sampling = Sampling()
    curate: CurateSettings = CurateSettings()
    mix: MixSettings = MixSettings()
    train: Training = TransformerTraining()
    measure: MeasureSettings = MeasureSettings()
    gate: GateSettings = GateSettings()
    budget: BudgetSettings = BudgetSettings()
    review: ReviewSettings = ReviewSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if "pii" in self.curate.stages and self.curate.pii.action == "mask":
            raise ValueError(
                "curate.pii.action mask is for `heirloom curate`: a run edits no candidate; set it to drop"
            )
        if isinstance(self.train, PointTraining) and self.prompts.program != "blank":
            raise ValueError(
                f"train.backend {self.train.backend!r} speaks points, which answer nothing: set prompts.program = 'blank', "
                f"not {self.prompts.program!r}"
            )
        self._refuse_idle_answers()
        return self

    def _refuse_idle_answers(self) -> None:
        several = self.prompts.answers > 1 or self.generate.arbitrage == "reward"
        chooses = "best_of" in self.curate.stages
        if chooses and not several and self.generate.arbitrage != "routed":
            raise ValueError("the sieve best_of chooses among answers to one prompt: set prompts.answers above 1")
        if self.generate.arbitrage != "fixed" and not chooses:
            raise ValueError(
                f"generate.arbitrage {self.generate.arbitrage!r} goes by what answers are worth: put best_of among curate.stages"
            )
        if self.prompts.answers > 1 and self.generate.beam_width > 1:
            raise ValueError(
                "a beam search has one answer to a prompt: set prompts.answers to 1, or leave out beam_width"
            )
        if self.generate.teacher_api == "chat" and any(self.generate.speakers) and self.prompts.program == "blank":
            raise ValueError(
                "whoever is asked by chat must be asked something: choose another prompts.program than blank"
            )

    def resolved(self, before: dict[str, Any] | None = None) -> Self:
        """The recipe with every `auto` decided: as the run began, or else by what this machine has.

        Raises:
            ValueError: what the recipe needs is not installed.
        """
        require_installed(self.train)
        sampling = self.generate
        if before and sampling.sampler == "auto":
            sampling = sampling.model_copy(update={"sampler": before["generate"]["sampler"]})
        curate = self.curate.resolved(before["curate"] if before else None)
        return self.model_copy(update={"generate": resolve_sampler(sampling, self.train), "curate": curate})
