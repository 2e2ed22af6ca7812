"""The recipe says what is made, the site says where: load them, override them, resolve them.

Every value that changes a result is in the recipe. Nothing here imports Prefect, torch or vLLM, so reading
or checking a recipe takes a fraction of a second.
"""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from curation.budget import BudgetSettings
from curation.gates import GateSettings
from curation.metrics import MeasureSettings
from curation.mixing import MixSettings
from curation.prompts import PromptSettings
from curation.review import ReviewSettings
from curation.stages import CurateSettings
from storage.bucket import SCHEME
from storage.mirror import attach, mirror_of
from storage.provenance import without_secrets
from storage.run import Run, runs
from tasks.backends import PointTraining, Resources, Sampling, Training, TransformerTraining
from tasks.backends.pool import require_installed, resolve_sampler

GROWING = {"generations", "question", "budget", "review"}
"""Fields of a recipe that may change on an existing run: how far to go, what it may cost, who is asked, and the words about it."""

_SHIPPED = Path(__file__).parent / "recipes"
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


class Site(BaseModel):
    """Where it is made. Recorded with the run, never part of what the run is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    store: Path = Field(Path("heirloom-store"), description="folder that holds everything")
    remote: str = Field(
        "",
        pattern=r"^(s3://[^/]+.*)?$",
        description="object storage that is the store, as s3://bucket/prefix; `store` is then the folder where it is kept at hand",
    )
    resources: Resources = Resources()

    def opened(self) -> Self:
        """The same, with the folder brought up to date where the store is on object storage.

        Raises:
            ValueError: the bucket cannot be read, or the folder is no mirror of it.
        """
        if self.remote:
            attach(self.store, self.remote)
        return self


def load_recipe(source: str, overrides: Sequence[str] = (), store: Path | None = None) -> Recipe:
    """A recipe from a TOML file, that of a run in `store`, or a shipped one by its name; overrides on top.

    A shipped recipe whose run is there is that run's, unless it is given another name.

    Raises:
        ValueError: no such file, not TOML, or a key or value that is not allowed; the message names its path.
    """
    path, known = Path(source), [run.name for run in runs(store)] if store else []
    renamed = source in shipped() and overridden({}, overrides).get("name", source) != source
    if store and source in known and not path.is_file() and not renamed:
        return Recipe.model_validate(overridden(Run(store, source).recipe(), overrides))
    if not path.suffix and not path.exists():
        path = _SHIPPED / f"{source}.toml"
    if not path.is_file():
        also = f"; or a run of {store}: {', '.join(known)}" if store and known else ""
        raise ValueError(
            f"there is no recipe {source}; name a TOML file, or a shipped recipe: {', '.join(shipped())}{also}"
        )
    return Recipe.model_validate(overridden(_toml(path), overrides))


def shipped() -> list[str]:
    """Names of the recipes that come with Heirloom."""
    return sorted(found.stem for found in _SHIPPED.glob("*.toml"))


def load_site(source: str | None, store: str | None) -> Site:
    """A site from a TOML file, or the defaults; `store` wins over both.

    Raises:
        ValueError: no such file, not TOML, or a key that is not allowed.
    """
    if source and not Path(source).is_file():
        raise ValueError(f"there is no site file {source}")
    site = Site.model_validate(_toml(Path(source)) if source else {})
    if store and store.startswith(SCHEME):
        return Site.model_validate({**site.model_dump(), "remote": store, "store": mirror_of(store)})
    return site.model_copy(update={"store": Path(store), "remote": ""}) if store else site


def overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`values` with each `table.key=value` put in its place.

    Raises:
        ValueError: an override without a value, or one that goes through a value as if it were a table.
    """
    for override in overrides:
        path, equals, raw = override.partition("=")
        if not equals:
            raise ValueError(f"--set {override} has no value; write it as table.key=value")
        *tables, key = path.strip().split(".")
        target = values
        for table in tables:
            target = target.setdefault(table, {})
            if not isinstance(target, dict):
                raise ValueError(f"--set {override}: {table} is a value, not a table")
        target[key] = _value(raw.strip())
    return values


def explain(error: ValidationError) -> str:
    """What is wrong with settings, one sentence a fault, each with its full path."""
    lines = []
    for fault in error.errors():
        parts = [str(part) for part in fault["loc"] if part not in _BACKENDS]
        where = ".".join(parts)
        if fault["type"] == "extra_forbidden":
            lines.append(f"{where} is no known key")
        else:
            said = fault["msg"].removeprefix("Value error, ")
            lines.append(
                f"{where + ': ' if where else ''}{said}"
                + (f" (found {_shown(fault['input'])})" if parts and not isinstance(fault["input"], dict) else "")
            )
    return "; ".join(lines)


def _shown(value: object) -> str:
    # An address in a site can hold a password.
    return without_secrets([repr(value)])[0]


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML: {error}") from error


def _value(raw: str) -> Any:  # noqa: ANN401  (whatever TOML can say)
    try:
        return tomllib.loads(f"value = {raw}")["value"]
    except tomllib.TOMLDecodeError:
        return raw
