"""Encode texts by a sentence-transformers model, run by torch or by OpenVINO.

Every call sorts its texts by length, so calls with many texts are faster. A text longer than the model's limit is
truncated, or split into chunks whose vectors are averaged.
"""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.utils import logging

from curation.embeddings.base import EmbeddingSettings, Vectors, l2_normalize
from heirloom.errors import HeirloomError, one_line

_BATCH = 32
_MARGIN = 8
"""Tokens by which a chunk stays below the limit, since a chunk cut within a word can have more tokens on its own."""
_COUNT_BATCH = 1024


class SentenceEncoder:
    """A loaded model.

    Args:
        model: name or path of a sentence-transformers model.
        settings: settings without `auto`, see `encoders.resolve_embedding`.

    Raises:
        HeirloomError: the model cannot be loaded, or not be run with these settings.
    """

    def __init__(self, model: str, settings: EmbeddingSettings) -> None:
        logging.disable_progress_bar()
        half = settings.precision == "bfloat16"
        model_kwargs = {"dtype": torch.bfloat16} if half and settings.backend == "torch" else {}
        try:
            self._model = SentenceTransformer(model, model_kwargs=model_kwargs, trust_remote_code=False)
        except (OSError, ValueError) as error:
            reason = one_line(error)
            raise HeirloomError(
                f"Cannot load encoder {model!r}: {reason}. It must be the name or path of a sentence-transformers "
                "model."
            ) from error
        if settings.backend == "openvino":
            _replace_network_by_openvino(self._model, model, half=half)
        self._chunk = settings.long_texts == "chunk"

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Return vectors of length 1, shape (texts, dimensions)."""
        if not texts:
            return np.zeros((0, self._model.get_embedding_dimension() or 0), np.float32)
        long = dict(self._long_texts(texts)) if self._chunk else {}
        chunks, owners, weights = [], [], []
        for row, text in enumerate(texts):
            for chunk, num_tokens in self._split(text) if row in long else [(text, 1)]:
                chunks.append(chunk)
                owners.append(row)
                weights.append(num_tokens)
        embedded = self._model.encode(chunks, batch_size=_BATCH, convert_to_tensor=True, show_progress_bar=False)
        vectors = l2_normalize(embedded.float().cpu().numpy())
        if not long:
            return vectors
        summed = np.zeros((len(texts), vectors.shape[1]), np.float32)
        np.add.at(summed, owners, vectors * np.array(weights, np.float32)[:, None])
        return l2_normalize(summed)

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Return the number of texts whose end has no influence on their vector."""
        return 0 if self._chunk else sum(1 for _ in self._long_texts(texts))

    def _long_texts(self, texts: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Yield the rows of texts above the model's limit, and their number of tokens."""
        limit = self._model.max_seq_length
        if not limit:
            return
        # A text never has more tokens than bytes, apart from a few special ones, so short texts need no tokenizing.
        possibly_long = [
            row for row, text in enumerate(texts) if len(text.encode("utf-8", "surrogatepass")) + _MARGIN > limit
        ]
        for start in range(0, len(possibly_long), _COUNT_BATCH):
            batch = possibly_long[start : start + _COUNT_BATCH]
            tokenized = self._model.tokenizer([texts[row] for row in batch], truncation=False, verbose=False)
            for row, token_ids in zip(batch, tokenized["input_ids"], strict=True):
                if len(token_ids) > limit:
                    yield row, len(token_ids)

    def _split(self, text: str) -> Iterator[tuple[str, int]]:
        """Yield chunks of a text within the model's limit, and the number of tokens of each."""
        spans = self._model.tokenizer(
            text, truncation=False, add_special_tokens=False, return_offsets_mapping=True, verbose=False
        )["offset_mapping"]
        length = max(1, (self._model.max_seq_length or len(spans)) - _MARGIN)
        for start in range(0, len(spans), length):
            chunk = spans[start : start + length]
            yield text[chunk[0][0] : chunk[-1][1]], len(chunk)


def _replace_network_by_openvino(model: SentenceTransformer, name: str, *, half: bool) -> None:
    """Run the network by OpenVINO; tokenizing and pooling stay with sentence-transformers.

    `SentenceTransformer(backend="openvino")` needs optimum-intel and an exported model; converting the loaded network
    in memory needs neither.
    """
    # Disable OpenVINO's usage telemetry: conversion works without the module.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    network = model[0].auto_model
    example = {key: torch.ones(2, 16, dtype=torch.long) for key in ("input_ids", "attention_mask")}
    verbosity = logging.get_verbosity()
    # The tracer reads every attribute of the network, and transformers warns about those that encoders do not have.
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = openvino.convert_model(_LastHidden(network), example_input=example)
    except Exception as error:  # the tracer raises many types
        raise HeirloomError(
            f"OpenVINO cannot run encoder {name!r}: {one_line(error)}. Set `curate.embedding.backend = 'torch'`."
        ) from error
    finally:
        logging.set_verbosity(verbosity)
    hints = {
        "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = openvino.Core().compile_model(graph, "CPU", hints).create_infer_request()

    def forward(input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: object) -> BaseModelOutputWithPooling:
        inputs = {"input_ids": input_ids.cpu().numpy(), "attention_mask": attention_mask.cpu().numpy()}
        hidden = request.infer(inputs, share_inputs=True)[0]
        return BaseModelOutputWithPooling(last_hidden_state=torch.from_numpy(hidden.astype(np.float32)))

    # `SentenceTransformer` calls the network by its `forward`, so replacing it keeps everything around it.
    network.forward = forward


class _LastHidden(torch.nn.Module):
    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self._network = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        outputs: Mapping[str, torch.Tensor] = self._network(
            input_ids=input_ids, attention_mask=attention_mask, return_dict=True
        )
        return outputs["last_hidden_state"]
