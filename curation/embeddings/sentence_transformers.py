"""Any sentence-transformers model as an encoder: its own arithmetic, or the same network run by OpenVINO.

Every call sorts by length over all its texts, so it should be given many. What is longer than the model reads
is cut at its limit, or read in pieces whose vectors are averaged.
"""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import logging

from curation.embeddings.base import EmbeddingSettings, Vectors, l2_normalize
from heirloom.errors import HeirloomError

_BATCH = 32
_MARGIN = 8
"""Tokens that a piece stays below the limit: what is cut inside a word can be more tokens when read again."""


class SentenceEncoder:
    """A model that is open, with settings that are resolved.

    Raises:
        HeirloomError: it cannot be opened, or not be run as the settings say.
    """

    def __init__(self, model: str, settings: EmbeddingSettings) -> None:
        logging.disable_progress_bar()
        half = settings.precision == "bfloat16"
        arithmetic = {"dtype": torch.bfloat16} if half and settings.backend == "torch" else {}
        try:
            self._model = SentenceTransformer(model, model_kwargs=arithmetic)
        except (OSError, ValueError) as error:
            raise HeirloomError(f"encoder {model!r} cannot be opened: {str(error).splitlines()[0]}") from error
        if settings.backend == "openvino":
            _run_by_openvino(self._model, model, half=half)
        self._chunk = settings.long_texts == "chunk"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors of length 1, shape (texts, dimensions)."""
        if not texts:
            return np.zeros((0, self._model.get_embedding_dimension() or 0), np.float32)
        long = dict(self._long_texts(texts)) if self._chunk else {}
        read, owner, weight = [], [], []
        for place, text in enumerate(texts):
            for piece, tokens in self._split(text) if place in long else [(text, 1)]:
                read.append(piece)
                owner.append(place)
                weight.append(tokens)
        found = self._model.encode(read, batch_size=_BATCH, convert_to_tensor=True, show_progress_bar=False)
        vectors = l2_normalize(found.float().cpu().numpy())
        if not long:
            return vectors
        summed = np.zeros((len(texts), vectors.shape[1]), np.float32)
        np.add.at(summed, owner, vectors * np.array(weight, np.float32)[:, None])
        return l2_normalize(summed)

    def count_truncated(self, texts: Sequence[str]) -> int:
        """How many of the texts have an end that has no part in their vector."""
        return 0 if self._chunk else sum(1 for _ in self._long_texts(texts))

    def _long_texts(self, texts: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Places of texts above the model's limit, and their tokens."""
        limit = self._model.max_seq_length
        if not limit:
            return
        # No tokenizer makes more tokens than bytes, but for the few that frame every text.
        doubtful = [
            place for place, text in enumerate(texts) if len(text.encode("utf-8", "surrogatepass")) + _MARGIN > limit
        ]
        for start in range(0, len(doubtful), 1024):
            some = doubtful[start : start + 1024]
            tokens = self._model.tokenizer([texts[place] for place in some], truncation=False, verbose=False)[
                "input_ids"
            ]
            yield from ((place, len(ids)) for place, ids in zip(some, tokens, strict=True) if len(ids) > limit)

    def _split(self, text: str) -> Iterator[tuple[str, int]]:
        """Pieces of a text that the model reads whole, and the tokens of each."""
        spans = self._model.tokenizer(
            text, truncation=False, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )["offset_mapping"]
        length = max(1, (self._model.max_seq_length or len(spans)) - _MARGIN)
        for start in range(0, len(spans), length):
            piece = spans[start : start + length]
            yield text[piece[0][0] : piece[-1][1]], len(piece)


def _run_by_openvino(opened: SentenceTransformer, name: str, *, half: bool) -> None:
    """Put OpenVINO in the place of the network; tokenizing, pooling and all else stay sentence-transformers'."""
    # Without it OpenVINO converts all the same, and reports to nobody.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    network = opened[0].auto_model
    example = {key: torch.ones(2, 16, dtype=torch.long) for key in ("input_ids", "attention_mask")}
    told = logging.get_verbosity()
    # The tracer reads every attribute of the network, and the library remarks on those that are not for encoders.
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = openvino.convert_model(_LastHidden(network), example_input=example)
    except Exception as error:  # (any of the tracer's own kinds)
        raise HeirloomError(
            f"encoder {name!r} cannot be run by OpenVINO: {str(error).splitlines()[0]}; set curate.embedding.backend = 'torch'"
        ) from error
    finally:
        logging.set_verbosity(told)
    hints = {
        "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = openvino.Core().compile_model(graph, "CPU", hints).create_infer_request()

    def forward(input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: object) -> BaseModelOutputWithPooling:
        given = {"input_ids": input_ids.cpu().numpy(), "attention_mask": attention_mask.cpu().numpy()}
        hidden = request.infer(given, share_inputs=True)[0]
        return BaseModelOutputWithPooling(last_hidden_state=torch.from_numpy(hidden.astype(np.float32)))

    network.forward = forward


class _LastHidden(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self._network = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        found: Mapping[str, Any] = self._network(input_ids=input_ids, attention_mask=attention_mask, return_dict=True)
        return found["last_hidden_state"]
