"""The vocabulary of a from-scratch model: a byte-level BPE learned from the reserve, once, in generation 0."""

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

_SPECIAL = ("<pad>", "<begin>", "<end>")


def train_bpe_tokenizer(texts: Sequence[str], size: int, context: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `size` tokens, special ones included; any text can be spelled with it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(_SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    pad, begin, end = _SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=begin,
        eos_token=end,
        model_max_length=context,
        # A text that names a special token is spelled letter by letter, or it would end in its middle.
        split_special_tokens=True,
    )
