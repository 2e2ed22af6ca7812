"""What each sampler can honour of the sampling settings, and what a site must have for it; the rest is refused, never left out."""

import os

from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling

_NOT_IN_A_SEARCH = {"vllm": ("repetition_penalty", "min_tokens")}
"""What a sampler can honour with dice, and not in a beam search."""
_OF_WORDS = tuple(
    name
    for name in Sampling.model_fields
    if name not in ("sampler", "temperature", "dtype") and "teacher" not in name and name not in ("arbitrage", "route")
)
"""What has a meaning for words, and none for points."""
_CANNOT = {
    "vllm": (),
    "server": ("beam_width",),
    "transformers": ("json_schema",),
    "ngram": (
        *("presence_penalty", "frequency_penalty", "repetition_penalty", "min_tokens", "stop", "beam_width"),
        "json_schema",
    ),
    "gaussian-mixture": _OF_WORDS,
    "vae": _OF_WORDS,
}


def refuse_beyond(sampling: Sampling) -> Sampling:
    """The settings, if whoever is to speak with them can honour them all.

    Raises:
        ValueError: the sampler, or the server that a teacher is asked over, cannot; the message names the settings.
    """
    asked = {name for name, one in Sampling.model_fields.items() if getattr(sampling, name) != one.get_default()}
    for sampler in {sampling.sampler: "", **({"server": ""} if any(sampling.speakers) else {})}:
        if unlike := [name for name in _cannot(sampler, sampling) if name in asked]:
            able = [name for name in _CANNOT if not asked & set(_cannot(name, sampling))]
            raise ValueError(
                f"sampler {sampler!r} cannot honour generate.{', generate.'.join(unlike)}; those that can: {', '.join(able) or 'none'}"
            )
    return sampling


def _cannot(sampler: str, sampling: Sampling) -> tuple[str, ...]:
    return _CANNOT[sampler] + (_NOT_IN_A_SEARCH.get(sampler, ()) if sampling.beam_width > 1 else ())


def servers_key(sampling: Sampling, resources: Resources) -> str:
    """The key of the servers that are to be asked, from the environment; empty where none is needed.

    Raises:
        ValueError: the variable that the site names is not set, or a teacher is to be asked and the site names no server.
    """
    remote = [name for name in sampling.speakers if name and not resources.folder_of(name)]
    if remote and not resources.servers:
        raise ValueError(
            f"the teacher is {remote[0]!r}, but the site names no resources.servers to ask, nor a folder in resources.models"
        )
    name = resources.server_key_variable
    if not name or not resources.servers or not (remote or sampling.sampler == "server"):
        return ""
    if not os.environ.get(name):
        raise ValueError(f"resources.server_key_variable names {name}, which is not set in the environment")
    return os.environ[name]
