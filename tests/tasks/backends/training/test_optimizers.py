"""Optimizers: Muon, AdamW, and their schedule."""

import pytest

pytest.importorskip("torch", reason="the optimizer is torch's")

from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from tasks.backends import TransformerTraining
from tasks.backends.models.loading import has_bfloat16
from tasks.backends.training.muon import StackedMuon, orthogonal
from tasks.backends.training.optim import build_muon_adamw

torch.set_num_threads(1)


def _matrices() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(shape) for shape in ((64, 32), (32, 64), (32, 32), (32, 32), (64, 32), (32, 32))]


def test_matrices_in_stacks_go_where_torch_takes_them_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two of the smaller or one of the larger to a product, and a product that is not full.
    monkeypatch.setattr("tasks.backends.training.muon._MAX_BATCH_WEIGHTS", 2_048)
    begun = _matrices()
    gradients = [[torch.randn_like(one) for one in begun] for _ in range(3)]
    stacked, plain = ([torch.nn.Parameter(one.clone()) for one in begun] for _ in range(2))
    ours = StackedMuon(stacked, lr=0.02, weight_decay=0.25)
    theirs = torch.optim.Muon(plain, lr=0.02, weight_decay=0.25)
    for step in gradients:
        for weights, optimizer in ((stacked, ours), (plain, theirs)):
            for weight, gradient in zip(weights, step, strict=True):
                weight.grad = gradient.clone()
            optimizer.step()
    moved = max((one - other).abs().max() for one, other in zip(stacked, begun, strict=True))
    apart = max((one - other).abs().max() for one, other in zip(stacked, plain, strict=True))
    # Where the processor has no bfloat16, torch rounds to it and we do not.
    assert apart < (0.001 if has_bfloat16(torch.device("cpu")) else 0.05) * moved
    for one, other in zip(ours.state.values(), theirs.state.values(), strict=True):
        assert torch.allclose(one["momentum_buffer"], other["momentum_buffer"])


@pytest.mark.parametrize("bfloat16", [True, False], ids=["bfloat16", "float32"])
def test_an_orthogonal_matrix_keeps_its_directions_and_evens_their_lengths(
    monkeypatch: pytest.MonkeyPatch, bfloat16: bool
) -> None:
    monkeypatch.setattr("tasks.backends.training.muon.has_bfloat16", lambda _: bfloat16)
    matrices = _matrices()
    for matrix, found in zip(matrices, orthogonal(matrices, (3.4445, -4.775, 2.0315), 5, 1e-7), strict=True):
        assert found.shape == matrix.shape
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        within = left.T @ found.float() @ right.T
        assert ((within.diagonal() > 0.5) & (within.diagonal() < 1.3)).all()
        assert (within - torch.diag(within.diagonal())).abs().max() < 0.05


def test_a_matrix_without_a_gradient_stays() -> None:
    moved, left = (torch.nn.Parameter(torch.ones(4, 4)) for _ in range(2))
    moved.grad = torch.eye(4)
    StackedMuon([moved, left], lr=0.1, weight_decay=0.1).step()
    assert torch.equal(left, torch.ones(4, 4))
    assert not torch.equal(moved, torch.ones(4, 4))


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
