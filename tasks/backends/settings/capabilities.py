"""Which sampling settings each sampler supports, and the API key of the servers. Unsupported settings are refused."""

import os

from heirloom.errors import HeirloomError
from tasks.backends.settings.resources import Resources
from tasks.backends.settings.sampling import Sampling

_TEXT_ONLY = tuple(
    name
    for name in Sampling.model_fields
    if name not in ("sampler", "temperature", "dtype") and not name.startswith("teacher")
)
"""Settings that have a meaning for texts and none for points."""
_ENGINE_ONLY = ("quantization", "speculative_config")
"""Settings of vLLM's engine."""
_UNSUPPORTED: dict[str, tuple[str, ...]] = {
    "vllm": (),
    "server": ("beam_width",),
    "transformers": ("json_schema", "reasoning_parser", *_ENGINE_ONLY),
    "ngram": (
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "min_tokens",
        "stop",
        "beam_width",
        "json_schema",
        *_ENGINE_ONLY,
        "use_chat_template",
        "reasoning_parser",
    ),
    "gaussian-mixture": _TEXT_ONLY,
    "vae": _TEXT_ONLY,
}
"""Sampler: settings that it does not support."""
_UNSUPPORTED_IN_BEAM_SEARCH = {"vllm": ("repetition_penalty", "min_tokens")}
"""Sampler: settings that it supports when it samples, but not in a beam search."""


def require_supported(sampling: Sampling) -> Sampling:
    """Return the settings unchanged if every sampler that they involve supports them.

    Raises:
        HeirloomError: the sampler, or the server of a teacher, does not support a setting; the message names it.
    """
    changed = {name for name, field in Sampling.model_fields.items() if getattr(sampling, name) != field.get_default()}
    # If teachers generate everything, the model's own sampler only samples for evaluation, see `own_model_sampling`.
    samplers = [] if all(sampling.model_names) else [sampling.sampler]
    if any(sampling.model_names) and "server" not in samplers:
        samplers.append("server")
    for sampler in samplers:
        unsupported = [name for name in _unsupported(sampler, sampling) if name in changed]
        if unsupported:
            able = [name for name in _UNSUPPORTED if not changed & set(_unsupported(name, sampling))]
            raise HeirloomError(
                f"Sampler {sampler!r} does not support generate.{', generate.'.join(unsupported)}. "
                f"Samplers that do: {', '.join(able) or 'none'}."
            )
    return sampling


def own_model_sampling(sampling: Sampling) -> Sampling:
    """Return the settings with which the generation's own model is sampled for evaluation.

    They are those of the run, without what its sampler does not support: if teachers generate everything, a setting
    such as a JSON schema is for them alone.
    """
    own = sampling.without_teacher
    unsupported = _unsupported(own.sampler, own)
    return own.model_copy(update={name: Sampling.model_fields[name].get_default() for name in unsupported})


def api_key(sampling: Sampling, resources: Resources) -> str:
    """Read the API key of the servers from the environment. Empty if no server is used or it needs no key.

    Raises:
        HeirloomError: the variable is not set, or a teacher needs a server and the site names none.
    """
    remote_teachers = [name for name in sampling.model_names if name and not resources.local_model(name)]
    if remote_teachers and not resources.server_urls:
        raise HeirloomError(
            f"The teacher is {remote_teachers[0]!r}, but the site has neither resources.server_urls nor a model of "
            "that name in resources.local_models. Set one of them, or use `smollm2`, a folder, or a full name on the "
            "Hugging Face Hub, `owner/model`."
        )
    variable = resources.api_key_env_var
    uses_server = bool(remote_teachers) or sampling.sampler == "server"
    if not variable or not resources.server_urls or not uses_server:
        return ""
    if not os.environ.get(variable):
        raise HeirloomError(f"resources.api_key_env_var is {variable}, which is not set in the environment. Set it.")
    return os.environ[variable]


def _unsupported(sampler: str, sampling: Sampling) -> tuple[str, ...]:
    in_beam_search = _UNSUPPORTED_IN_BEAM_SEARCH.get(sampler, ()) if sampling.beam_width > 1 else ()
    return _UNSUPPORTED[sampler] + in_beam_search
