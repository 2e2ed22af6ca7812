"""Sampling and beam search with transformers: the reference for the meaning of vLLM's settings."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tasks.backends.models.loading import max_positions
from tasks.backends.settings.sampling import Sampling
from tasks.backends.types import Completion


class PromptTokens(NamedTuple):
    """Token ids of a prompt, and the tokens that end a response to it."""

    ids: list[int]
    end_ids: Collection[int]


@torch.inference_mode()
def sample_completion(
    settings: Sampling,
    tokenizer: PreTrainedTokenizerFast,
    network: LlamaForCausalLM,
    prompt: PromptTokens,
    generator: torch.Generator,
) -> Completion:
    """Continue a prompt until one of its `end_ids`, a stop string, `max_tokens`, or the context's end."""
    input_ids, end_ids = prompt.ids, prompt.end_ids
    max_length = max_positions(network)
    generated: list[int] = []
    sum_logprob, cache, finish_reason, text = 0.0, None, "length", ""
    new_ids = torch.tensor([input_ids], device=network.device)
    while len(generated) < settings.max_tokens and len(input_ids) + len(generated) < max_length:
        output = network(input_ids=new_ids, past_key_values=cache, use_cache=True)
        cache, logits = output.past_key_values, output.logits[0, -1].float().cpu()
        penalized = _apply_penalties(logits, settings, input_ids, generated)
        if len(generated) < settings.min_tokens:
            penalized[list(end_ids)] = -torch.inf
        probabilities = _filter_tokens(penalized / settings.temperature, settings)
        token = int(torch.multinomial(probabilities, 1, generator=generator))
        # The log-probability is that of the model, without sampling settings.
        sum_logprob += float(logits.log_softmax(-1)[token])
        generated.append(token)
        if token in end_ids:
            finish_reason = "stop"
            break
        previous_length = len(text)
        text = tokenizer.decode(generated, skip_special_tokens=True)
        stop_position = _stop_position(text, previous_length, settings.stop)
        if stop_position is not None and len(generated) > settings.min_tokens:
            return Completion(text[:stop_position], "stop", len(input_ids), len(generated), sum_logprob)
        new_ids = torch.tensor([[token]], device=network.device)
    text = tokenizer.decode(generated, skip_special_tokens=True)
    return Completion(text, finish_reason, len(input_ids), len(generated), sum_logprob)


def _stop_position(text: str, previous_length: int, stop: Sequence[str]) -> int | None:
    """Return the position of the first stop string that the newest token completes, in the order of `stop`.

    As in vLLM, a stop string that an earlier token completed does not count: it was before `min_tokens` and remains.
    """
    for stop_string in stop:
        position = text.find(stop_string, max(0, previous_length + 1 - len(stop_string)))
        if position >= 0:
            return position
    return None


@torch.inference_mode()
def beam_search(
    settings: Sampling,
    tokenizer: PreTrainedTokenizerFast,
    network: LlamaForCausalLM,
    prompts: Sequence[list[int]],
    max_length: int,
) -> list[Completion]:
    """Return the most likely continuation of each prompt that `beam_width` beams find, in the order of the prompts.

    Only prompts of equal length form a batch, so that no padding changes a result.
    """
    completions: dict[int, Completion] = {}
    indices_by_length = defaultdict[int, list[int]](list)
    for index, prompt in enumerate(prompts):
        indices_by_length[len(prompt)].append(index)
    for length, indices in indices_by_length.items():
        max_new_tokens = min(settings.max_tokens, max_length - length)
        input_ids = torch.tensor([prompts[index] for index in indices], device=network.device)
        output_ids = network.generate(
            input_ids=input_ids,
            attention_mask=torch.ones_like(input_ids),
            num_beams=settings.beam_width,
            do_sample=False,
            max_new_tokens=max_new_tokens,
            min_new_tokens=min(settings.min_tokens, max_new_tokens) or None,
            repetition_penalty=settings.repetition_penalty,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        # The logits at a position are those of the next token.
        log_probabilities = network(output_ids).logits[:, length - 1 : -1].float().log_softmax(-1)
        token_logprobs = log_probabilities.gather(-1, output_ids[:, length:, None])[..., 0]
        for row, index in enumerate(indices):
            generated, logprobs = output_ids[row, length:].tolist(), token_logprobs[row].tolist()
            completions[index] = _beam_completion(tokenizer, generated, logprobs, length)
    return [completions[index] for index in range(len(prompts))]


def _beam_completion(
    tokenizer: PreTrainedTokenizerFast, generated: list[int], logprobs: list[float], prompt_tokens: int
) -> Completion:
    """Build the completion of one beam. Tokens after the end token are padding."""
    ended = tokenizer.eos_token_id in generated
    num_tokens = generated.index(tokenizer.eos_token_id) + 1 if ended else len(generated)
    text = tokenizer.decode(generated[:num_tokens], skip_special_tokens=True)
    return Completion(text, "stop" if ended else "length", prompt_tokens, num_tokens, sum(logprobs[:num_tokens]))


def _apply_penalties(
    logits: torch.Tensor, settings: Sampling, input_ids: list[int], generated: list[int]
) -> torch.Tensor:
    """Return logits with penalties, in vLLM's order: repetition (Keskar et al. 2019), then frequency and presence."""
    penalized = logits.clone()
    repeated = torch.tensor(sorted({*input_ids, *generated}))
    before = penalized[repeated]
    penalty = settings.repetition_penalty
    penalized[repeated] = torch.where(before > 0, before / penalty, before * penalty)
    counts = torch.bincount(torch.tensor(generated, dtype=torch.long), minlength=len(penalized))
    return penalized - settings.frequency_penalty * counts - settings.presence_penalty * (counts > 0)


def _filter_tokens(logits: torch.Tensor, settings: Sampling) -> torch.Tensor:
    """Return token probabilities after top-k, min-p and top-p (nucleus) filtering, in this order."""
    probabilities = logits.softmax(-1)
    if settings.top_k:
        top = probabilities.topk(min(settings.top_k, len(probabilities))).values
        probabilities[probabilities < top[-1]] = 0
    if settings.min_p:
        probabilities[probabilities < settings.min_p * probabilities.max()] = 0
    if settings.top_p < 1:
        ordered, token_ids = probabilities.sort(descending=True)
        # A token stays if those before it have less than `top_p` of the mass.
        mass_before = ordered.cumsum(0) - ordered
        probabilities[token_ids[mass_before >= settings.top_p * ordered.sum()]] = 0
    return probabilities / probabilities.sum()
