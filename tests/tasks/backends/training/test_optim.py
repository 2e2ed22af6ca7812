from typing import Any

import pytest

pytest.importorskip("torch", reason="the optimizer is torch's")

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from tasks.backends import TransformerTraining
from tasks.backends.training.optim import build_muon_adamw

torch.set_num_threads(1)

_SETTINGS = TransformerTraining(learning_rate=0.02, embedding_learning_rate=0.003, weight_decay=0.25)


def _model() -> Any:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=300,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            tie_word_embeddings=True,
        )
    )


def _learn(model: Any, optimizer: Any) -> dict[str, bool]:
    """One step; which parameters it moved."""
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    ids = torch.arange(60).reshape(2, 30)
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return {name: not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters()}


def test_every_parameter_is_covered_once() -> None:
    model = _model()
    covered = [id(one) for group in build_muon_adamw(model, _SETTINGS).param_groups for one in group["params"]]
    assert sorted(covered) == sorted(id(parameter) for parameter in model.parameters())


def test_muon_has_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    model = _model()
    muon, adamw = build_muon_adamw(model, _SETTINGS).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert all(names[id(one)].endswith("_proj.weight") for one in muon["params"])
    assert len(muon["params"]) == 2 * 7
    assert all("norm" in names[id(one)] or "embed" in names[id(one)] for one in adamw["params"])
    assert (muon["lr"], adamw["lr"]) == (0.02, 0.003)
    assert (muon["weight_decay"], adamw["weight_decay"]) == (0.25, 0.25)


@pytest.mark.parametrize("tied", [True, False])
def test_tables_of_tokens_and_places_are_no_matrices_whatever_they_are_called(tied: bool) -> None:
    shape = GPT2Config(vocab_size=300, n_positions=16, n_embd=32, n_layer=1, n_head=2, tie_word_embeddings=tied)
    model = GPT2LMHeadModel(shape)
    muon, adamw = build_muon_adamw(model, _SETTINGS).param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(one)] for one in muon["params"]} == {
        f"transformer.h.0.{name}.weight" for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
    tables = {"transformer.wte.weight", "transformer.wpe.weight", *([] if tied else ["lm_head.weight"])}
    assert tables < {names[id(one)] for one in adamw["params"]}


def test_a_step_moves_every_parameter() -> None:
    model = _model()
    moved = _learn(model, build_muon_adamw(model, _SETTINGS))
    assert all(moved.values())


def test_one_schedule_moves_both_parts() -> None:
    model = _model()
    optimizer = build_muon_adamw(model, _SETTINGS)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: (1.0, 0.5, 0.0)[min(step, 2)])
    rates = []
    for _ in range(2):
        rates.append([group["lr"] for part in optimizer._parts for group in part.param_groups])
        assert all(_learn(model, optimizer).values())
        schedule.step()
    assert rates == [[0.02, 0.003], [0.01, 0.0015]]
    # The rate is now 0: nothing moves, in either part.
    assert not any(_learn(model, optimizer).values())


def test_gradients_are_cleared_in_both_parts() -> None:
    model = _model()
    _learn(model, build_muon_adamw(model, _SETTINGS))
    assert all(parameter.grad is None for parameter in model.parameters())
