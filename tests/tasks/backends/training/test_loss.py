import pytest

pytest.importorskip("torch", reason="the head is a torch module")

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tasks.backends.training.loss import LlamaWithChunkedLoss, _ChunkedCrossEntropy

torch.set_num_threads(1)


def _shape() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=311,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        attn_implementation="eager",
        dtype="float32",
    )


def _pair() -> tuple[LlamaWithChunkedLoss, LlamaForCausalLM]:
    torch.manual_seed(0)
    sliced = LlamaWithChunkedLoss(_shape()).train()
    plain = LlamaForCausalLM(_shape()).train()
    plain.load_state_dict(sliced.state_dict())
    return sliced, plain


# Below one slice of 256 rows, at its edges, and over several of them.
@pytest.mark.parametrize(("rows", "length"), [(1, 5), (4, 65), (8, 33), (11, 60)])
def test_loss_and_gradients_equal_those_of_the_plain_llama(rows: int, length: int) -> None:
    sliced, plain = _pair()
    ids = torch.randint(0, 311, (rows, length), generator=torch.Generator().manual_seed(rows))
    losses = [network(input_ids=ids, labels=ids).loss for network in (sliced, plain)]
    assert float(losses[0]) == pytest.approx(float(losses[1]), abs=1e-4)
    for loss in losses:
        (3 * loss).backward()
    expected = dict(plain.named_parameters())
    names = [name for name, _ in sliced.named_parameters()]
    assert names == list(expected)
    for name, parameter in sliced.named_parameters():
        assert expected[name].grad.abs().max() > 0
        torch.testing.assert_close(parameter.grad, expected[name].grad, atol=1e-4, rtol=1e-4)


def test_the_loss_follows_its_labels() -> None:
    sliced, _ = _pair()
    ids = torch.arange(40).reshape(2, 20)
    same, other = (float(sliced(input_ids=ids, labels=labels).loss) for labels in (ids, ids + 100))
    assert same != other


def test_training_never_holds_the_logits_of_a_step() -> None:
    sliced, plain = _pair()
    ids = torch.arange(40).reshape(2, 20)
    assert sliced(input_ids=ids, labels=ids).logits is None
    assert plain(input_ids=ids, labels=ids).logits is not None


def test_without_labels_it_answers_as_the_plain_llama() -> None:
    sliced, plain = _pair()
    ids = torch.arange(40).reshape(2, 20)
    torch.testing.assert_close(sliced(input_ids=ids).logits, plain(input_ids=ids).logits)


@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize(("rows", "length"), [(2, 20), (11, 60)])
def test_a_held_out_loss_is_that_of_the_plain_llama_without_its_logits(rows: int, length: int, bfloat16: bool) -> None:
    sliced, plain = (network.eval() for network in _pair())
    ids = torch.randint(0, 311, (rows, length), generator=torch.Generator().manual_seed(rows))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        expected = plain(input_ids=ids, labels=ids).loss
        outputs = sliced(input_ids=ids, labels=ids)
    torch.testing.assert_close(outputs.loss, expected.float())
    assert outputs.logits is None


def test_parts_of_a_batch_add_up_to_its_mean_whatever_each_has_to_learn() -> None:
    sliced, plain = _pair()
    ids = torch.arange(60).reshape(3, 20)
    labels = ids.clone()
    labels[0, :15] = -100
    learned = int((labels[:, 1:] >= 0).sum())
    for network in (sliced, sliced.eval(), plain):
        whole = network(input_ids=ids, labels=labels).loss
        parts = [
            network(input_ids=ids[at], labels=labels[at], num_items_in_batch=learned).loss
            for at in (slice(0, 1), slice(1, 3))
        ]
        torch.testing.assert_close(sum(parts), whole)


def test_the_library_counts_what_the_head_learns() -> None:
    from transformers.loss.loss_utils import LOSS_MAPPING

    sliced, plain = _pair()
    assert LOSS_MAPPING[sliced.loss_type] is LOSS_MAPPING[plain.loss_type]


def test_the_loss_is_made_where_the_model_is() -> None:
    # The meta device has shapes alone, and refuses to mix with the processor's memory as a card does.
    hidden, weight = (torch.zeros((rows, 8), device="meta", requires_grad=True) for rows in (300, 20))
    loss = _ChunkedCrossEntropy.apply(hidden, weight, torch.zeros(300, dtype=torch.long, device="meta"), 300)
    loss.backward()
    assert {one.device.type for one in (loss, hidden.grad, weight.grad)} == {"meta"}
