import pytest

pytest.importorskip("torch", reason="the optimizer is torch's")

import torch

from tasks.backends.models.loading import has_bfloat16
from tasks.backends.training.muon import StackedMuon, orthogonal

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
