"""Write the first recipe for somebody's own text: chosen by what the text and the model are, with comments."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from heirloom.commands import suggest
from heirloom.errors import HeirloomError
from storage.files import write_atomically
from storage.names import check_name
from tasks.ingestion.sample import SourceSample

SITE_FILE = "site.toml"
SMALL, NGRAM = "small", "ngram"
"""Models that are trained from scratch."""
_SMALL_PASSAGE_CHARS, _PASSAGE_CHARS = (80, 400), (200, 4000)
"""Lengths of passages that a small model and a pretrained one can hold."""
_SCRATCH_MODELS = {
    SMALL: """
# A Llama of .65 million weights, trained from scratch in every generation: minutes on two cores. It shows how a loop
# behaves; for useful text set `base_model`, as in the line below.
backend = "transformer"
# base_model = "smollm2"    # or a folder, or a name on the Hugging Face Hub, with init_from = "base"
""",
    NGRAM: """
# Counts of words: seconds, and neither torch nor vLLM. It shows how a loop behaves.
backend = "ngram"
""",
}
_PRETRAINED = """
# Each generation trains an adapter for this model. `preset` sets the published rate, schedule and epochs;
# `heirloom plan --all` shows them. For all weights: preset = "full-finetune".
backend = "transformer"
init_from = "base"
base_model = {model}
preset = "lora"
"""


@dataclass(frozen=True, kw_only=True)
class NewRecipe:
    """What a recipe is written for."""

    name: str
    """Name of the run and of the dataset."""
    source: str
    sample: SourceSample
    model: str
    """`small`, `ngram`, or a pretrained model: `smollm2`, a folder, or a name on the Hugging Face Hub."""
    teacher: str = ""
    """Model behind `server` that answers in place of the trained one."""
    server: str = ""
    """URL of an OpenAI-compatible server."""

    def __post_init__(self) -> None:
        check_name(self.name, "a run")
        if bool(self.teacher) != bool(self.server):
            raise HeirloomError(
                "`--teacher` and `--server` belong together: a model, and the URL of the server that has it, as in "
                "--teacher my-model --server http://localhost:8000"
            )
        if self.sample.shape and self.model in _SCRATCH_MODELS:
            raise HeirloomError(
                f"The source has {self.sample.shape}, and `--model {self.model}` cannot learn to answer. Name a "
                "pretrained model: smollm2, a folder, or a name on the Hugging Face Hub."
            )

    @property
    def passage_chars(self) -> tuple[int, int] | None:
        """Minimum and maximum length of passages, if the documents are too long for the model."""
        chars = _SMALL_PASSAGE_CHARS if self.model in _SCRATCH_MODELS else _PASSAGE_CHARS
        return chars if not self.sample.shape and self.sample.median_chars > chars[1] else None

    def ingest_words(self) -> list[str]:
        """Return the arguments of `heirloom ingest` for the source."""
        words = [self.source, "--name", self.name]
        if self.sample.text_column != "text":
            words += ["--text-column", self.sample.text_column]
        if passage_chars := self.passage_chars:
            words += ["--set", "passage_length_chars=[{},{}]".format(*passage_chars)]
        return words

    def to_toml(self) -> str:
        """Return the recipe as TOML with comments."""
        is_chat = bool(self.sample.shape)
        template = "distill" if is_chat else "unconditional" if self.model in _SCRATCH_MODELS else "prefix"
        filters = ["empty", "exact", "minhash"] if is_chat else ["empty", "exact", "quality", "minhash"]
        model = _SCRATCH_MODELS.get(self.model) or _PRETRAINED.format(model=_quoted(self.model))
        objective = '\n# Loss on the responses alone.\nobjective = "sft"\n' if is_chat else ""
        teacher = (
            f"\n# Answers instead of the trained model; its URL is in {SITE_FILE}.\nteacher = {_quoted(self.teacher)}\n"
        )
        listed = ", ".join(f'"{name}"' for name in filters)
        return f"""\
# A recipe holds every setting that changes a result: docs/recipe.md lists them all. Try other values without editing:
# heirloom plan {self.name}.toml --set num_generations=3
name = "{self.name}"
description = "Does quality last over generations of synthetic text?"
dataset = "{self.name}"
seed = 0

# Generation 0 is trained on human text alone; each later one on human text and what its predecessor wrote.
num_generations = 5

[prompts]
# How the model is asked. unconditional: nothing; prefix: the first words of a human record; rephrase: a whole record;
# distill: the question of a recorded conversation. docs/generation.md has them all.
template_name = "{template}"

# Candidates per human record.
prompts_per_human_record = 1.0

[generate]
# Below 1, rare words disappear sooner.
temperature = 1.0
{teacher if self.teacher else ""}
[curate]
# In this order. Every dropped candidate stays queryable with its reason: heirloom query drop_reasons
filters = [{listed}]

[mix]
# anchor: all human text beside the newest synthetic text. Others: replace (collapses), accumulate, fixed-fraction.
policy = "anchor"

[train]{model}{objective}
[gate]
# Each generation is compared with generation 0, and with its limits a run can warn, stop, or try again with more human
# text: docs/metrics.md. To stop a run that gets worse:
# limits = [{{metric = "perplexity", at_most = 1.5, action = "stop"}}]
"""

    def site_toml(self) -> str:
        """Return the site file that names the server."""
        return f"""\
# A site holds what does not change results: where the store is, and with which machines a run works: docs/recipe.md
[resources]
server_urls = [{_quoted(self.server)}]
# Name of the environment variable with the key of the server.
api_key_env_var = "OPENAI_API_KEY"
# Prices, with which `heirloom plan` estimates money.
# price_per_million_tokens = 0.6
"""

    def next_commands(self, folder: Path) -> list[str]:
        """Return the command lines from the source to a report, with the recipe in `folder`."""
        recipe = str(folder / f"{self.name}.toml")
        site = ["--site", str(folder / SITE_FILE)] if self.server else []
        return [
            suggest("ingest", *self.ingest_words(), *site),
            *(suggest(command, recipe, *site) for command in ("plan", "preview", "run")),
            suggest("show", self.name),
        ]


def write_recipe(new: NewRecipe, folder: Path) -> list[Path]:
    """Write the recipe, and a site file if there is a server; return their paths.

    Raises:
        HeirloomError: one of them exists.
    """
    contents = {folder / f"{new.name}.toml": new.to_toml()}
    if new.server:
        contents[folder / SITE_FILE] = new.site_toml()
    if existing := next((path for path in contents if path.exists()), None):
        raise HeirloomError(f"{existing} exists. Remove it, or choose another `--name` or `--folder`.")
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in contents.items():
        write_atomically(path, content.encode())
    return list(contents)


def _quoted(text: str) -> str:
    """Return a text as a string of TOML, whose escapes are those of JSON."""
    return json.dumps(text, ensure_ascii=False)


def default_name(source: str) -> str:
    """Return a name for the dataset of a source: the stem of its last part, in lower case, with hyphens."""
    stem = Path(source.partition("?")[0]).name.partition(".")[0]
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-") or "mine"
