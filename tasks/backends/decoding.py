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
    """Continue `ids` until the end token, `max_tokens`, or `longest` tokens in all, by the dice given."""
    spoken: list[int] = []
    total, cache, reason = 0.0, None, "length"
    fed = torch.tensor([ids])
    while len(spoken) < settings.max_tokens and len(ids) + len(spoken) < longest:
        answer = network(input_ids=fed, past_key_values=cache, use_cache=True)
        cache, logits = answer.past_key_values, answer.logits[0, -1].float()
        token = int(torch.multinomial(_filtered(logits / settings.temperature, settings), 1, generator=dice))
        total += float(logits.log_softmax(-1)[token])
        spoken.append(token)
        if token == tokenizer.eos_token_id:
            reason = "stop"
            break
        fed = torch.tensor([[token]])
    text = tokenizer.decode(spoken, skip_special_tokens=True)
    return Completion(text, reason, len(ids), len(spoken), total)


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
