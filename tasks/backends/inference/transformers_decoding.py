"""Sampling and beam search with transformers: the reference for the meaning of vLLM's settings."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tasks.backends.settings.sampling import Sampling
from tasks.backends.types import Completion


@torch.inference_mode()
def sample_completion(
    settings: Sampling,
    tokenizer: PreTrainedTokenizerFast,
    network: LlamaForCausalLM,
    input_ids: list[int],
    generator: torch.Generator,
    max_length: int,
) -> Completion:
    """Continue `input_ids` until the end token, a stop string, `max_tokens`, or `max_length` tokens in all."""
    generated: list[int] = []
    total, cache, reason, text = 0.0, None, "length", ""
    fed = torch.tensor([input_ids], device=network.device)
    while len(generated) < settings.max_tokens and len(input_ids) + len(generated) < max_length:
        answer = network(input_ids=fed, past_key_values=cache, use_cache=True)
        cache, logits = answer.past_key_values, answer.logits[0, -1].float().cpu()
        shaped = _apply_penalties(logits, settings, input_ids, generated)
        if len(generated) < settings.min_tokens:
            shaped[tokenizer.eos_token_id] = -torch.inf
        token = int(torch.multinomial(_filter_tokens(shaped / settings.temperature, settings), 1, generator=generator))
        total += float(logits.log_softmax(-1)[token])
        generated.append(token)
        if token == tokenizer.eos_token_id:
            reason = "stop"
            break
        before, text = len(text), tokenizer.decode(generated, skip_special_tokens=True)
        # As in vLLM, a stop string counts only if it ends in the newest token: one before `min_tokens` stays.
        found = [place for stop in settings.stop if (place := text.find(stop, max(0, before + 1 - len(stop)))) >= 0]
        if found and len(generated) > settings.min_tokens:
            return Completion(text[: found[0]], "stop", len(input_ids), len(generated), total)
        fed = torch.tensor([[token]], device=network.device)
    text = tokenizer.decode(generated, skip_special_tokens=True)
    return Completion(text, reason, len(input_ids), len(generated), total)


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
    found: dict[int, Completion] = {}
    alike = defaultdict[int, list[int]](list)
    for place, input_ids in enumerate(prompts):
        alike[len(input_ids)].append(place)
    for length, places in alike.items():
        room = min(settings.max_tokens, max_length - length)
        fed = torch.tensor([prompts[place] for place in places], device=network.device)
        said = network.generate(
            input_ids=fed,
            attention_mask=torch.ones_like(fed),
            num_beams=settings.beam_width,
            do_sample=False,
            max_new_tokens=room,
            min_new_tokens=min(settings.min_tokens, room) or None,
            repetition_penalty=settings.repetition_penalty,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        logs = network(said).logits[:, length - 1 : -1].float().log_softmax(-1)
        each = logs.gather(-1, said[:, length:, None])[..., 0]
        for row, place in enumerate(places):
            found[place] = _to_completion(tokenizer, said[row, length:].tolist(), each[row].tolist(), length)
    return [found[place] for place in range(len(prompts))]


def _to_completion(
    tokenizer: PreTrainedTokenizerFast, generated: list[int], logs: list[float], asked: int
) -> Completion:
    """Build the completion of one beam. Tokens after the end token are padding."""
    ended = tokenizer.eos_token_id in generated
    size = generated.index(tokenizer.eos_token_id) + 1 if ended else len(generated)
    text = tokenizer.decode(generated[:size], skip_special_tokens=True)
    return Completion(text, "stop" if ended else "length", asked, size, sum(logs[:size]))


def _apply_penalties(
    logits: torch.Tensor, settings: Sampling, input_ids: list[int], generated: list[int]
) -> torch.Tensor:
    """Return logits with penalties, in vLLM's order: repetition (Keskar et al. 2019), then frequency and presence."""
    shaped = logits.clone()
    known = torch.tensor(sorted({*input_ids, *generated}))
    shaped[known] = torch.where(
        shaped[known] > 0, shaped[known] / settings.repetition_penalty, shaped[known] * settings.repetition_penalty
    )
    counts = torch.bincount(torch.tensor(generated, dtype=torch.long), minlength=len(shaped))
    return shaped - settings.frequency_penalty * counts - settings.presence_penalty * (counts > 0)


def _filter_tokens(logits: torch.Tensor, settings: Sampling) -> torch.Tensor:
    probabilities = logits.softmax(-1)
    if settings.top_k:
        probabilities[probabilities < probabilities.topk(min(settings.top_k, len(probabilities))).values[-1]] = 0
    if settings.min_p:
        probabilities[probabilities < settings.min_p * probabilities.max()] = 0
    if settings.top_p < 1:
        ordered, places = probabilities.sort(descending=True)
        probabilities[places[ordered.cumsum(0) - ordered >= settings.top_p * ordered.sum()]] = 0
    return probabilities / probabilities.sum()
