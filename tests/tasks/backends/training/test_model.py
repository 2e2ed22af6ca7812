import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="a transformer needs the train extra")

import torch

from tasks.backends import TrainingCorpus, TransformerTraining
from tasks.backends.models.loading import load_tokenizer, split_adapter
from tasks.backends.training.loss import LlamaWithChunkedLoss
from tasks.backends.training.model import build_model
from tests.conftest import human_texts
from tests.tasks.conftest import Trained

pytestmark = pytest.mark.transformer
_CORPUS = TrainingCorpus(human_texts(30), [])
_ADAMW = {"optimizer": "adamw", "learning_rate": 0.002}


def _settings(tiny: TransformerTraining, **more: Any) -> TransformerTraining:
    return TransformerTraining.model_validate({**tiny.model_dump(), **more})


def test_from_scratch_the_vocabulary_is_learned_once_and_kept(tiny: TransformerTraining, first: Trained) -> None:
    network, tokenizer = build_model(tiny, None, first.folder, _CORPUS)
    assert type(network) is LlamaWithChunkedLoss
    assert tokenizer.backend_tokenizer.to_str() == load_tokenizer(first.folder).backend_tokenizer.to_str()
    plain, learned = build_model(_settings(tiny, chunked_cross_entropy=False), None, None, _CORPUS)
    assert type(plain).__name__ == "LlamaForCausalLM"
    assert len(learned) <= 400


def test_a_layer_loses_some_of_what_it_adds_while_it_learns_and_nothing_afterwards(tiny: TransformerTraining) -> None:
    network, _ = build_model(_settings(tiny, residual_dropout=0.5), None, None, _CORPUS)
    ids, layer = torch.tensor([[5, 6, 7]]), network.model.layers[0]
    lost: list[float] = []
    for end in (layer.self_attn.o_proj, layer.mlp.down_proj):
        end.register_forward_hook(lambda _, __, added: lost.append(float((added == 0).float().mean())))
    with torch.no_grad():
        network.train()(input_ids=ids, labels=ids)
        assert all(0.3 < share < 0.7 for share in lost)
        lost.clear()
        network.eval()(input_ids=ids, labels=ids)
    assert lost == [0.0, 0.0]


def test_a_base_of_another_kind_takes_the_dropout_that_it_has(
    tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(vocab_size=400, n_positions=64, n_embd=32, n_layer=1, n_head=2)).save_pretrained(
        tmp_path
    )
    load_tokenizer(first.folder).save_pretrained(tmp_path)
    network, _ = build_model(_settings(tiny, init_from="base", dropout=0.25), tmp_path, None, _CORPUS)
    assert network.config.attn_pdrop == 0.25
    with pytest.raises(ValueError, match=r"GPT2LMHeadModel has no o_proj, down_proj\. Unset it"):
        build_model(_settings(tiny, init_from="base", residual_dropout=0.1), tmp_path, None, _CORPUS)


def test_a_base_without_attention_has_no_dropout_on_it(
    tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    from transformers import MambaConfig, MambaForCausalLM

    MambaForCausalLM(MambaConfig(vocab_size=400, hidden_size=32, num_hidden_layers=1, state_size=4)).save_pretrained(
        tmp_path
    )
    load_tokenizer(first.folder).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"train.dropout is 0.25, but .* has no attention dropout\. Unset it"):
        build_model(_settings(tiny, init_from="base", dropout=0.25), tmp_path, None, _CORPUS)


def test_from_a_model_the_weights_are_its_own(tiny: TransformerTraining, first: Trained) -> None:
    from safetensors.torch import load_file

    network, _ = build_model(_settings(tiny, init_from="previous"), first.folder, first.folder, _CORPUS)
    stored = load_file(first.folder / "model.safetensors")
    assert torch.equal(network.model.embed_tokens.weight, stored["model.embed_tokens.weight"])


def test_an_adapter_is_all_that_learns(tiny: TransformerTraining, first: Trained) -> None:
    network, _ = build_model(
        _settings(tiny, init_from="base", lora_rank=2, **_ADAMW), first.folder, first.folder, _CORPUS
    )
    learning = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert learning
    assert all("lora_" in name for name in learning)


@pytest.fixture
def spelled(adapter: Path, first: Trained, tmp_path: Path) -> Path:
    """The adapter as a generation's model, with its tokenizer."""
    shutil.copytree(adapter, tmp_path / "spelled")
    load_tokenizer(first.folder).save_pretrained(tmp_path / "spelled")
    return tmp_path / "spelled"


def test_an_adapter_learns_on_as_it_is_and_drops_what_is_asked(
    tiny: TransformerTraining, first: Trained, spelled: Path
) -> None:
    more = {
        "init_from": "previous",
        "lora_rank": 8,
        "lora_alpha": 8,
        "save_adapter_only": True,
        "dropout": 0.25,
        **_ADAMW,
    }
    network, _ = build_model(_settings(tiny, **more), spelled, first.folder, _CORPUS)
    assert network.peft_config["default"].target_modules == {"q_proj", "v_proj"}
    drops = [one for name, one in network.named_modules() if name.endswith("lora_dropout.default")]
    assert drops and all(one.p == 0.25 for one in drops)


@pytest.mark.parametrize("other", [{"lora_rank": 4}, {"lora_alpha": 16}])
def test_an_adapter_of_another_size_than_the_one_that_is_there_is_refused(
    tiny: TransformerTraining, first: Trained, spelled: Path, other: dict[str, int]
) -> None:
    more = {"init_from": "previous", "lora_rank": 8, "lora_alpha": 8, "save_adapter_only": True, **_ADAMW, **other}
    with pytest.raises(ValueError, match=r"has 8 and 8\. Use these, or set train.save_adapter_only = false"):
        build_model(_settings(tiny, **more), spelled, first.folder, _CORPUS)


def test_an_adapter_is_taken_apart_from_its_base(adapter: Path, first: Trained) -> None:
    assert split_adapter(adapter) == (str(first.folder), adapter)
    assert split_adapter(first.folder) == (str(first.folder), None)


def test_a_model_that_spells_otherwise_is_refused(tiny: TransformerTraining, first: Trained, tmp_path: Path) -> None:
    other = Path(shutil.copytree(first.folder, tmp_path / "other"))
    _, learned = build_model(_settings(tiny, vocab_size=350), None, None, TrainingCorpus(["other words"] * 9, []))
    learned.save_pretrained(other)
    with pytest.raises(
        ValueError, match=r"Vocabulary mismatch: .* has another tokenizer than the model of generation 0"
    ):
        build_model(_settings(tiny, init_from="base"), other, first.folder, _CORPUS)


def test_a_tokenizer_that_is_larger_than_its_model_is_refused(
    tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(first.folder, tmp_path / "other"))
    larger = load_tokenizer(first.folder)
    larger.add_tokens(["<more>"])
    larger.save_pretrained(other)
    with pytest.raises(ValueError, match="has 401 tokens, but its model has 400"):
        build_model(_settings(tiny, init_from="base"), other, None, _CORPUS)


def test_a_folder_that_is_no_model_is_refused(tiny: TransformerTraining, first: Trained, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no tokenizer can be read from"):
        build_model(_settings(tiny, init_from="base"), tmp_path, None, _CORPUS)
    load_tokenizer(first.folder).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="Cannot load a model from"):
        build_model(_settings(tiny, init_from="base"), tmp_path, None, _CORPUS)


def test_a_context_that_the_base_does_not_have_is_refused(tiny: TransformerTraining, first: Trained) -> None:
    with pytest.raises(ValueError, match=r"train.context_length is 128, but the maximum of .* is 64 tokens"):
        build_model(_settings(tiny, init_from="base", context_length=128), first.folder, None, _CORPUS)


def test_a_tokenizer_without_a_begin_takes_its_end(first: Trained, tmp_path: Path) -> None:
    other = Path(shutil.copytree(first.folder, tmp_path / "other"))
    config = json.loads((other / "tokenizer_config.json").read_text())
    for name in ("bos_token", "pad_token"):
        config.pop(name)
    (other / "tokenizer_config.json").write_text(json.dumps(config))
    found = load_tokenizer(other)
    assert found.bos_token == found.pad_token == found.eos_token == "<end>"
