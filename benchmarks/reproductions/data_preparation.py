"""Prepare human text for experiments at published size.

Cut it into blocks of tokens, or edit tokens of high probability.

`python -m benchmarks.reproductions.data_preparation blocks FILE --tokenizer NAME --out BLOCKS` (Shumailov et al. 2024,
Drayson et al. 2025); `python -m benchmarks.reproductions.data_preparation edit TEXTS --model NAME --out EDITED` (Zhu et
al. 2024). A line of JSONL holds a text.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reproductions.token_editing import EditSettings, TokenDistribution, edit_tokens


def cut(text: str, tokenizer: Any, size: int) -> list[str]:  # noqa: ANN401
    """Blocks of so many tokens, in order; what is left at the end is not one."""
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [tokenizer.decode(ids[start : start + size]) for start in range(0, len(ids) - size + 1, size)]


def edited(text: str, tokenizer: Any, network: Any, settings: EditSettings, seed: int) -> tuple[str, int, int]:  # noqa: ANN401
    """Return the text with tokens of high probability resampled, the number of resampled tokens, and of all tokens.

    A text that is longer than the network sees at once is edited piece by piece.
    """
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    longest = network.config.max_position_embeddings - 1
    pieces = [ids[start : start + longest] for start in range(0, len(ids), longest)]
    found = [
        edit_tokens(
            _outlook(network, [tokenizer.bos_token_id, *piece], tokenizer.all_special_ids, settings), settings, seed
        )
        for piece in pieces
    ]
    tokens = [int(token) for some, _ in found for token in some]
    return tokenizer.decode(tokens), sum(int(sure.sum()) for _, sure in found), len(ids)


def _outlook(network: Any, ids: list[int], never: list[int], settings: EditSettings) -> TokenDistribution:  # noqa: ANN401
    import torch

    with torch.inference_mode():
        logits = network(torch.tensor([ids], device=network.device)).logits[0, :-1].float()
        found = logits.softmax(-1)
        tokens = torch.tensor(ids[1:], device=network.device)
        token_probabilities = found.gather(-1, tokens[:, None])[:, 0]
        # What ends a text or pads it is not offered for a word of it.
        found[:, never] = 0
        beside, likeliest = found.topk(settings.top_k)
    return TokenDistribution(
        tokens=np.array(ids[1:], np.int64),
        probabilities=token_probabilities.cpu().numpy().astype(np.float64),
        top_k_ids=likeliest.cpu().numpy(),
        top_k_probabilities=beside.cpu().numpy().astype(np.float64),
    )


def _edits(file: Path, model: str, settings: EditSettings, counts: list[int]) -> Iterator[str]:
    """Texts of a file of JSONL, edited; `counts` has the numbers of resampled and of all tokens."""
    from tasks.backends.models.loading import load_model, load_tokenizer

    tokenizer, network = load_tokenizer(model), load_model(Path(model))
    with file.open() as lines:
        for place, line in enumerate(lines):
            text, again, tokens = edited(json.loads(line)["text"], tokenizer, network, settings, place)
            counts[0] += again
            counts[1] += tokens
            yield text


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reproductions.data_preparation",
        description="Human text as experiments at their published size take it, one a line of JSONL.",
        epilog="Example: python -m benchmarks.reproductions.data_preparation blocks wiki.train.raw --tokenizer "
        "facebook/opt-125m --out blocks.jsonl",
    )
    ways = parser.add_subparsers(dest="way", required=True)
    blocks = ways.add_parser("blocks", help="cut a text into blocks of tokens")
    blocks.add_argument("--tokenizer", required=True, help="folder or name of the model whose tokens are counted")
    blocks.add_argument("--tokens", type=int, default=64, help="tokens of a block")
    edit = ways.add_parser("edit", help="resample tokens that a model gives a high probability")
    edit.add_argument("--model", required=True, help="folder or name of the model")
    edit.add_argument("--threshold", type=float, default=0.99, help="minimum probability of a token to be resampled")
    for way in (blocks, edit):
        way.add_argument("file", type=Path, help="a text, or texts as JSONL to be edited")
        way.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    if not given.file.is_file():
        parser.error(f"there is no file {given.file}")
    counts = [0, 0]
    try:
        if given.way == "blocks":
            if given.tokens < 1:
                parser.error(f"a block has at least one token; found --tokens {given.tokens}")
            from tasks.backends.models.loading import load_tokenizer

            texts = cut(given.file.read_text(), load_tokenizer(given.tokenizer), given.tokens)
        else:
            texts = list(_edits(given.file, given.model, EditSettings(threshold=given.threshold), counts))
    except (ValueError, KeyError) as mistake:
        parser.error(str(mistake))
    given.out.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    print(
        f"{given.out}: {len(texts):,} texts"
        + (f", {counts[0] / max(1, counts[1]):.1%} of the tokens resampled" if counts[1] else "")
    )


if __name__ == "__main__":
    _main()
