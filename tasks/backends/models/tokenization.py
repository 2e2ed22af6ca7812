"""Tokenize the text of records and prompts.

Names of special tokens that occur in a text, such as `</s>`, are tokenized as ordinary text. Only the caller adds
begin, end and template tokens, so a text cannot end itself or open another turn of a conversation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # importing transformers takes seconds
    from transformers import PreTrainedTokenizerFast


def tokenize_texts(tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text, without any special token but that of unknown characters."""
    if not texts:
        return []
    # Set at each call: a tokenizer saved with `split_special_tokens` would also split the tokens of its chat template.
    encoding = tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    special.discard(tokenizer.unk_token_id)
    return [ids if special.isdisjoint(ids) else _spell(tokenizer, ids, special) for ids in encoding["input_ids"]]


def _spell(tokenizer: "PreTrainedTokenizerFast", ids: list[int], special: set[int]) -> list[int]:
    """Replace special tokens by tokens of their names.

    `split_special_tokens` does not suffice for Unigram models, whose vocabulary contains the names as ordinary pieces.
    """
    model = tokenizer.backend_tokenizer.model
    spelled = []
    for token in ids:
        if token in special:
            name = tokenizer.convert_ids_to_tokens(token)
            spelled += [piece.id for part in (name[:1], name[1:]) for piece in model.tokenize(part)]
        else:
            spelled.append(token)
    return spelled


@dataclass(frozen=True)
class EncodedPrompt:
    """Token ids of a prompt, and how many were cut because it did not fit."""

    ids: list[int]
    num_cut: int = 0
