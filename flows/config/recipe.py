"""The recipe says what is made, the site says where: load them, override them, resolve them.

Every value that changes a result is in the recipe. Nothing here imports Prefect, torch or vLLM, so reading
or checking a recipe takes a fraction of a second.
"""

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.budget import BudgetSettings
from curation.gates import GateSettings
from curation.metrics.settings import EvalSettings
from curation.mixing import MixSettings
from curation.pipeline import CurateSettings
from curation.prompts.plan import PromptSettings
from curation.review import ReviewSettings
from heirloom.errors import HeirloomError
from storage.names import Name
from tasks.backends import PointTraining, Sampling, Training, TransformerTraining
from tasks.backends.registry import require_installed, resolve_sampler

MUTABLE_FIELDS = {"num_generations", "description", "budget", "review"}
"""Fields of a recipe that may change on an existing run: how far to go, what it may cost, who is asked, and the words about it."""


_BACKENDS = ("transformer", "ngram", "gaussian-mixture", "vae")
"""What pydantic puts into the path of a fault in `[train]`, and nobody wrote."""


class Recipe(BaseModel):
    """What is made. A run is one execution of one recipe, in a folder of the recipe's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="name of the run")
    description: str = Field("", description="what this recipe is meant to find out, in one sentence")
    dataset: str = Field("python-docs", description="name of the ingested human text")
    seed: int = Field(0, ge=0, description="all dice follow from it")
    num_generations: int = Field(5, ge=0, description="how far to go; 0 stops after the model of human text alone")
    prompts: PromptSettings = PromptSettings()
    generate: Sampling = Sampling()
    curate: CurateSettings = CurateSettings()
    mix: MixSettings = MixSettings()
    train: Training = TransformerTraining()
    evaluate: EvalSettings = EvalSettings()
    gate: GateSettings = GateSettings()
    budget: BudgetSettings = BudgetSettings()
    review: ReviewSettings = ReviewSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if "pii" in self.curate.filters and self.curate.pii.action == "mask":
            raise HeirloomError(
                "curate.pii.action mask is for `heirloom curate`: a run edits no candidate; set it to drop"
            )
        if isinstance(self.train, PointTraining) and self.prompts.template_name != "unconditional":
            raise HeirloomError(
                f"train.backend {self.train.backend!r} speaks points, which answer nothing: set prompts.template_name = 'unconditional', "
                f"not {self.prompts.template_name!r}"
            )
        self._check_completions()
        return self

    def _check_completions(self) -> None:
        several = self.prompts.completions_per_prompt > 1 or self.generate.teacher_routing == "reward"
        chooses = "best_of" in self.curate.filters
        if chooses and not several and self.generate.teacher_routing != "routed":
            raise HeirloomError(
                "the sieve best_of chooses among answers to one prompt: set prompts.completions_per_prompt above 1"
            )
        if self.generate.teacher_routing != "fixed" and not chooses:
            raise HeirloomError(
                f"generate.teacher_routing {self.generate.teacher_routing!r} goes by what answers are worth: put best_of among curate.filters"
            )
        if self.prompts.completions_per_prompt > 1 and self.generate.beam_width > 1:
            raise HeirloomError(
                "a beam search has one answer to a prompt: set prompts.completions_per_prompt to 1, or leave out beam_width"
            )
        if (
            self.generate.teacher_api == "chat"
            and any(self.generate.model_names)
            and self.prompts.template_name == "unconditional"
        ):
            raise HeirloomError(
                "whoever is asked by chat must be asked something: choose another prompts.template_name than unconditional"
            )

    def resolve_auto(self, stored: dict[str, Any] | None = None) -> Self:
        """The recipe with every `auto` decided: as the run began, or else by what this machine has.

        Raises:
            HeirloomError: what the recipe needs is not installed.
        """
        require_installed(self.train)
        sampling = self.generate
        if stored and sampling.sampler == "auto":
            sampling = sampling.model_copy(update={"sampler": stored["generate"]["sampler"]})
        curate = self.curate.resolve_auto(stored["curate"] if stored else None)
        return self.model_copy(update={"generate": resolve_sampler(sampling, self.train), "curate": curate})
