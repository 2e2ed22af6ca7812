"""The recipe: every setting that changes a result. Where and with which resources a run works is in the site.

Importing this module loads neither Prefect nor torch nor vLLM.
"""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from curation.budget import BudgetSettings
from curation.gates import GateSettings
from curation.metrics.settings import EvalSettings
from curation.mixing import MixSettings
from curation.pipeline import CurateSettings
from curation.prompts.plan import PromptSettings
from curation.review import ReviewSettings
from curation.user_code import UserCode
from curation.verification.settings import VerifySettings
from heirloom.errors import HeirloomError
from heirloom.settings import Settings
from storage.names import Name
from tasks.backends import PointTraining, Sampling, Training, TransformerTraining
from tasks.backends.registry import require_installed, resolve_sampler

MUTABLE_FIELDS = {"num_generations", "description", "budget", "review"}
"""Fields that may change on an existing run, since no generation that is finished depends on them."""


class Recipe(Settings):
    """Settings of a run. A run is one execution of one recipe, in a folder of the recipe's name."""

    name: Name = Field(description="Name of the run.")
    description: str = Field("", description="The question that the run answers, in one sentence.")
    dataset: Name = Field("python-docs", description="Name of the ingested human dataset.")
    seed: int = Field(0, ge=0, description="Seed for all random number generators.")
    num_generations: int = Field(
        5,
        ge=0,
        description="Number of the last generation. Generation 0 is trained on human text alone; 0 stops after it.",
    )
    prompts: PromptSettings = PromptSettings()
    generate: Sampling = Sampling()
    verify: VerifySettings = VerifySettings()
    curate: CurateSettings = CurateSettings()
    mix: MixSettings = MixSettings()
    train: Training = TransformerTraining()
    evaluate: EvalSettings = EvalSettings()
    gate: GateSettings = GateSettings()
    budget: BudgetSettings = BudgetSettings()
    review: ReviewSettings = ReviewSettings()

    @model_validator(mode="before")
    @classmethod
    def _add_default_backend(cls, values: Any) -> Any:  # noqa: ANN401  (what a user wrote)
        train = values.get("train") if isinstance(values, Mapping) else None
        if isinstance(train, Mapping) and "backend" not in train:
            default: str = TransformerTraining.model_fields["backend"].get_default()
            return {**values, "train": {"backend": default, **train}}
        return values

    @model_validator(mode="after")
    def _check_across_tables(self) -> Self:
        if "pii" in self.curate.filters and self.curate.pii.action == "mask":
            raise HeirloomError(
                '`curate.pii.action` is "mask", which only `heirloom curate` supports: a run does not edit candidates. '
                'Set `curate.pii.action = "drop"`.'
            )
        if isinstance(self.train, PointTraining) and self.prompts.template_name != "unconditional":
            raise HeirloomError(
                f'`train.backend` is "{self.train.backend}", which generates points without prompts, but '
                f'`prompts.template_name` is "{self.prompts.template_name}". '
                'Set `prompts.template_name = "unconditional"`.'
            )
        self._check_best_of()
        self._check_prompting()
        return self

    def _check_best_of(self) -> None:
        uses_best_of = "best_of" in self.curate.filters
        routing = self.generate.teacher_routing
        if uses_best_of and routing == "fixed" and self.prompts.completions_per_prompt == 1:
            raise HeirloomError(
                "`curate.filters` contains best_of, which chooses among completions of one prompt, but "
                "`prompts.completions_per_prompt` is 1. Set it above 1, or remove best_of."
            )
        if routing != "fixed" and not uses_best_of:
            raise HeirloomError(
                f'`generate.teacher_routing` is "{routing}", which compares teachers by best_of scores, but '
                "`curate.filters` does not contain best_of. Add it, or use "
                '`generate.teacher_routing = "fixed"`.'
            )

    def _check_prompting(self) -> None:
        if self.prompts.completions_per_prompt > 1 and self.generate.beam_width > 1:
            raise HeirloomError(
                f"`generate.beam_width` is {self.generate.beam_width}, and beam search returns one completion per "
                f"prompt, but `prompts.completions_per_prompt` is {self.prompts.completions_per_prompt}. "
                "Set one of them to 1."
            )
        asks_teacher_by_chat = self.generate.teacher_api == "chat" and any(self.generate.model_names)
        if asks_teacher_by_chat and self.prompts.template_name == "unconditional":
            raise HeirloomError(
                '`generate.teacher_api` is "chat", which needs a prompt, but `prompts.template_name` is '
                '"unconditional". Choose another template, or set `generate.teacher_api = "completions"`.'
            )

    def user_code(self) -> list[UserCode]:
        """Return the user's code that a run imports. Nothing is imported here."""
        return [*self.prompts.user_code(), *self.curate.user_code(), *self.evaluate.user_code()]

    def import_user_code(self) -> None:
        """Import all of the user's code, so that a run does not start with code that it cannot use.

        Raises:
            HeirloomError: code cannot be loaded, or a filter does not accept its settings.
        """
        for code in self.user_code():
            code.load()
        self.curate.build_filters()

    def resolve_auto(self, stored: Mapping[str, Any] | None = None, *, import_user_code: bool = True) -> Self:
        """Return the recipe with every `auto` replaced.

        Args:
            stored: the resolved recipe of an existing run, whose choices are kept. Without it, the choice depends on
                the hardware and the packages of this machine.
            import_user_code: whether to import the user's filters, to find out if they need embeddings.

        Raises:
            HeirloomError: the recipe needs a package that is not installed.
        """
        require_installed(self.train)
        sampling = self.generate
        if stored and sampling.sampler == "auto":
            sampling = sampling.model_copy(update={"sampler": stored["generate"]["sampler"]})
        curate = self.curate.resolve_auto(stored["curate"] if stored else None, import_user_code=import_user_code)
        is_pretrained = isinstance(self.train, TransformerTraining) and self.train.preset != "scratch-small"
        evaluate = self.evaluate.resolve_auto(stored["evaluate"] if stored else None, is_pretrained=is_pretrained)
        return self.model_copy(
            update={"generate": resolve_sampler(sampling, self.train), "curate": curate, "evaluate": evaluate}
        )
