"""One text, token by token, by plain transformers: slow, and the reference for how vLLM reads the same settings."""

import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from tasks.backends import Completion, Sampling


@torch.inference_mode()
def complete(
    settings: Sampling,
    tokenizer: PreTrainedTokenizerFast,
    network: LlamaForCausalLM,
    ids: list[int],
    dice: torch.Generator,
    longest: int,
) -> Completion:
    """Continue `ids` until the end token, a stop string, `max_tokens`, or `longest` tokens in all, by the dice given."""
    spoken: list[int] = []
    total, cache, reason, text = 0.0, None, "length", ""
    fed = torch.tensor([ids], device=network.device)
    while len(spoken) < settings.max_tokens and len(ids) + len(spoken) < longest:
        answer = network(input_ids=fed, past_key_values=cache, use_cache=True)
        cache, logits = answer.past_key_values, answer.logits[0, -1].float().cpu()
        shaped = _penalised(logits, settings, ids, spoken)
        if len(spoken) < settings.min_tokens:
            shaped[tokenizer.eos_token_id] = -torch.inf
        token = int(torch.multinomial(_filtered(shaped / settings.temperature, settings), 1, generator=dice))
        total += float(logits.log_softmax(-1)[token])
        spoken.append(token)
        if token == tokenizer.eos_token_id:
            reason = "stop"
            break
        before, text = len(text), tokenizer.decode(spoken, skip_special_tokens=True)
        # As vLLM does: only what ends in the newest token counts, so what was said before `min_tokens` stays.
        found = [place for stop in settings.stop if (place := text.find(stop, max(0, before + 1 - len(stop)))) >= 0]
        if found and len(spoken) > settings.min_tokens:
            return Completion(text[: found[0]], "stop", len(ids), len(spoken), total)
        fed = torch.tensor([[token]], device=network.device)
    text = tokenizer.decode(spoken, skip_special_tokens=True)
    return Completion(text, reason, len(ids), len(spoken), total)


def _penalised(logits: torch.Tensor, settings: Sampling, ids: list[int], spoken: list[int]) -> torch.Tensor:
    """Logits less their penalties, in vLLM's order: repetition (Keskar et al. 2019), then frequency and presence."""
    shaped = logits.clone()
    known = torch.tensor(sorted({*ids, *spoken}))
    shaped[known] = torch.where(
        shaped[known] > 0, shaped[known] / settings.repetition_penalty, shaped[known] * settings.repetition_penalty
    )
    counts = torch.bincount(torch.tensor(spoken, dtype=torch.long), minlength=len(shaped))
    return shaped - settings.frequency_penalty * counts - settings.presence_penalty * (counts > 0)


def _filtered(logits: torch.Tensor, settings: Sampling) -> torch.Tensor:
    probabilities = logits.softmax(-1)
    if settings.top_k:
        probabilities[probabilities < probabilities.topk(min(settings.top_k, len(probabilities))).values[-1]] = 0
    if settings.min_p:
        probabilities[probabilities < settings.min_p * probabilities.max()] = 0
    if settings.top_p < 1:
        ordered, places = probabilities.sort(descending=True)
        probabilities[places[ordered.cumsum(0) - ordered >= settings.top_p * ordered.sum()]] = 0
    return probabilities / probabilities.sum()
