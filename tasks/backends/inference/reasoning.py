"""Separate the reasoning of a thinking model from its response, by vLLM's parsers.

vLLM has a parser for each family of models that think. This module needs vLLM, but no engine.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from heirloom.errors import HeirloomError
from tasks.backends.types import Completion

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast
    from vllm.reasoning import ReasoningParser


def reasoning_parser(name: str, tokenizer: "PreTrainedTokenizerFast") -> "ReasoningParser":
    """Return vLLM's reasoning parser of a name, for the tokenizer of a model.

    Raises:
        HeirloomError: there is no such parser, or it does not fit the tokenizer.
    """
    from vllm.reasoning import ReasoningParserManager

    known = ReasoningParserManager.list_registered()
    if name not in known:
        raise HeirloomError(f"generate.reasoning_parser is {name!r}. vLLM's parsers are: {', '.join(sorted(known))}.")
    try:
        return ReasoningParserManager.get_reasoning_parser(name)(tokenizer)
    except (RuntimeError, ValueError) as error:
        raise HeirloomError(f"generate.reasoning_parser is {name!r}, which does not fit the model: {error}") from error


def separate_reasoning(parser: "ReasoningParser", completion: Completion, token_ids: Sequence[int]) -> Completion:
    """Return a completion with its reasoning apart from its text, and the number of its tokens.

    A completion that ends within its reasoning has an empty text.
    """
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

    request = ChatCompletionRequest(model="", messages=[])
    reasoning, text = parser.extract_reasoning(completion.text, request)
    if not reasoning:
        return replace(completion, text=text or completion.text)
    num_tokens = parser.count_reasoning_tokens(token_ids)
    if not num_tokens:
        num_tokens = len(parser.model_tokenizer.encode(reasoning, add_special_tokens=False))
    return replace(completion, text=text or "", reasoning=reasoning, reasoning_tokens=num_tokens)
