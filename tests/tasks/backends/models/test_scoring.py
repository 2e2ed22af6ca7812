import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch", reason="a transformer needs the train extra")

import torch
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForCausalLM

from tasks.backends.models import scoring
from tasks.backends.models.loading import load_model, load_tokenizer
from tasks.backends.models.scoring import batch_nll, length_sorted_batches, tokenize
from tests.tasks.conftest import Trained

pytestmark = pytest.mark.transformer


def test_a_text_is_spelled_with_its_begin_and_its_end(first: Trained) -> None:
    tokenizer = load_tokenizer(first.folder)
    assert tokenize(tokenizer, "")[0] == tokenizer.bos_token_id
    assert tokenize(tokenizer, "a")[-1] == tokenizer.eos_token_id
    assert tokenize(tokenizer, "a", closed=False) == tokenize(tokenizer, "a")[:-1]


def test_an_adapter_is_scored_with_its_base(adapter: Path) -> None:
    probe = json.loads((adapter / "probe.json").read_text())
    ((nats,),) = batch_nll(load_model(adapter), [probe["token_ids"]], [1.0])
    assert nats == pytest.approx(-probe["log_probability"], abs=1e-3)


def test_rows_of_a_batch_do_not_change_each_other(first: Trained) -> None:
    network, rows = load_model(first.folder), [[1, 5, 9, 2], [1, 7, 2]]
    together = batch_nll(network, rows, [1.0, 0.5])
    alone = [batch_nll(network, [row], [1.0, 0.5])[0] for row in rows]
    for found, expected in zip(together, alone, strict=True):
        assert found == pytest.approx(expected, abs=1e-4)


_SMALL = {"vocab_size": 97, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
_ARCHITECTURES = [
    ("llama", {**_SMALL, "num_key_value_heads": 2, "intermediate_size": 48}),
    # The first two scale their logits and the third caps them; OPT has its decoder one level deeper; Mamba has no
    # attention.
    ("granite", {**_SMALL, "num_key_value_heads": 2, "intermediate_size": 48, "logits_scaling": 4.0}),
    ("cohere", {**_SMALL, "num_key_value_heads": 2, "intermediate_size": 48, "logit_scale": 0.25}),
    (
        "gemma2",
        {**_SMALL, "num_key_value_heads": 2, "intermediate_size": 48, "head_dim": 8, "final_logit_softcapping": 2.0},
    ),
    ("gpt2", {"vocab_size": 97, "n_embd": 32, "n_head": 4, "n_layer": 2}),
    ("opt", {**_SMALL, "ffn_dim": 48, "word_embed_proj_dim": 16}),
    ("bloom", {"vocab_size": 97, "hidden_size": 32, "n_head": 4, "n_layer": 2}),
    ("mamba", {"vocab_size": 97, "hidden_size": 32, "state_size": 8, "num_hidden_layers": 2}),
]


@pytest.mark.parametrize(("model_type", "shape"), _ARCHITECTURES)
def test_chunks_of_positions_have_the_likelihoods_of_whole_logits_in_every_architecture(
    model_type: str, shape: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **shape)
    network = AutoModelForCausalLM.from_config(config).eval()
    rows = [torch.randint(3, 97, (length,)).tolist() for length in (1, 5, 23, 23)]
    monkeypatch.setattr(scoring, "_HEAD_POSITIONS", {"cpu": 7})
    monkeypatch.setattr(scoring, "_SOFTMAX_POSITIONS", {"cpu": 3})
    found = batch_nll(network, rows, [1.0, 0.5, 4.0])
    for row, nats in zip(rows, found, strict=True):
        logits = network(input_ids=torch.tensor([row])).logits[0, :-1].double()
        expected = [
            -float((logits / temperature).log_softmax(-1).gather(1, torch.tensor(row[1:])[:, None]).sum())
            for temperature in (1.0, 0.5, 4.0)
        ]
        assert nats == pytest.approx(expected, abs=1e-4)


@given(lengths=st.lists(st.integers(1, 9000)))
def test_batches_hold_every_text_once_by_length_within_the_bound(lengths: list[int]) -> None:
    batches = list(length_sorted_batches(lengths, torch.device("cpu")))
    order = [index for batch in batches for index in batch]
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[index] for index in order] == sorted(lengths)
    for batch in batches:
        assert len(batch) == 1 or (len(batch) <= 32 and len(batch) * max(lengths[index] for index in batch) <= 4096)


def test_no_tensor_of_a_batch_times_the_vocabulary_is_allocated() -> None:
    config = AutoConfig.for_model(
        "llama", **{**_SMALL, "vocab_size": 20_000}, num_key_value_heads=2, intermediate_size=48
    )
    network, rows = AutoModelForCausalLM.from_config(config).eval(), [[1] * 512] * 8
    largest = 0

    class LargestTensor(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            result = function(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor):
                largest = max(largest, result.numel())
            return result

    with LargestTensor():
        batch_nll(network, rows, [1.0, 2.0])
    assert 0 < largest <= 256 * 20_000 < 8 * 512 * 20_000
