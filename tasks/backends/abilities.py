"""What each sampler can honour of the sampling settings; what it cannot is refused, never left out in silence."""

from tasks.backends import Sampling

_CANNOT = {
    "vllm": (),
    "server": ("beam_width",),
    "transformers": ("beam_width", "json_schema"),
    "ngram": (
        *("presence_penalty", "frequency_penalty", "repetition_penalty", "min_tokens", "stop", "beam_width"),
        "json_schema",
    ),
}


def refuse_beyond(sampling: Sampling) -> Sampling:
    """The settings, if whoever is to speak with them can honour them all.

    Raises:
        ValueError: the sampler, or the server that a teacher is asked over, cannot; the message names the settings.
    """
    for sampler in {sampling.sampler: "", **({"server": ""} if sampling.teacher else {})}:
        unlike = [
            name for name in _CANNOT[sampler] if getattr(sampling, name) != Sampling.model_fields[name].get_default()
        ]
        if unlike:
            able = [name for name, cannot in _CANNOT.items() if not set(unlike) & set(cannot)]
            raise ValueError(
                f"sampler {sampler!r} cannot honour generate.{', generate.'.join(unlike)}; those that can: {', '.join(able)}"
            )
    return sampling
