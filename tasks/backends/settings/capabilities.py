"""What each sampler can honour of the sampling settings, and what a site must have for it; the rest is refused, never left out."""

import os

from heirloom.errors import HeirloomError
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling

_NOT_IN_A_SEARCH = {"vllm": ("repetition_penalty", "min_tokens")}
"""What a sampler can honour with dice, and not in a beam search."""
_OF_WORDS = tuple(
    name
    for name in Sampling.model_fields
    if name not in ("sampler", "temperature", "dtype")
    and "teacher" not in name
    and name not in ("teacher_routing", "teacher_map")
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


def require_supported(sampling: Sampling) -> Sampling:
    """The settings, if whoever is to speak with them can honour them all.

    Raises:
        HeirloomError: the sampler, or the server that a teacher is asked over, cannot; the message names the settings.
    """
    asked = {name for name, one in Sampling.model_fields.items() if getattr(sampling, name) != one.get_default()}
    for sampler in {sampling.sampler: "", **({"server": ""} if any(sampling.model_names) else {})}:
        if unlike := [name for name in _cannot(sampler, sampling) if name in asked]:
            able = [name for name in _CANNOT if not asked & set(_cannot(name, sampling))]
            raise HeirloomError(
                f"sampler {sampler!r} cannot honour generate.{', generate.'.join(unlike)}; those that can: {', '.join(able) or 'none'}"
            )
    return sampling


def _cannot(sampler: str, sampling: Sampling) -> tuple[str, ...]:
    return _CANNOT[sampler] + (_NOT_IN_A_SEARCH.get(sampler, ()) if sampling.beam_width > 1 else ())


def api_key(sampling: Sampling, resources: Resources) -> str:
    """The key of the servers that are to be asked, from the environment; empty where none is needed.

    Raises:
        HeirloomError: the variable that the site names is not set, or a teacher is to be asked and the site names no server.
    """
    remote = [name for name in sampling.model_names if name and not resources.model_folder(name)]
    if remote and not resources.server_urls:
        raise HeirloomError(
            f"the teacher is {remote[0]!r}, but the site names no resources.server_urls to ask, nor a folder in resources.local_models"
        )
    name = resources.api_key_env_var
    if not name or not resources.server_urls or not (remote or sampling.sampler == "server"):
        return ""
    if not os.environ.get(name):
        raise HeirloomError(f"resources.api_key_env_var names {name}, which is not set in the environment")
    return os.environ[name]
