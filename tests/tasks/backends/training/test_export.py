import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("peft", reason="adapters need the train extra")

import torch
from safetensors.torch import load_file
from transformers.integrations import deepspeed

from tasks.backends import Prompt, Sampling, TrainingCorpus, TrainJob, TransformerTraining
from tasks.backends.models.loading import load_model, load_tokenizer
from tasks.backends.registry import Backends
from tasks.backends.training.export import ExportFormat, export_model
from tests.conftest import human_texts
from tests.tasks.conftest import Trained

pytestmark = pytest.mark.transformer


def _learn(backends: Backends, settings: TransformerTraining, first: Trained, folder: Path) -> Path:
    folder.mkdir(parents=True)
    corpus = TrainingCorpus(human_texts(40, seed=9), [])
    job = TrainJob(
        settings=settings,
        corpus=corpus,
        gen0_model=first.folder,
        initial_weights=first.folder,
        folder=folder,
        seed=3,
    )
    backends.trainer().train(job, lambda *_: None)
    return folder


def test_an_adapter_alone_and_a_merged_one_generate_the_same_text(
    backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    asked = {"init_from": "base", "lora_rank": 4, "optimizer": "adamw", "learning_rate": 0.01}
    merged = TransformerTraining.model_validate({**tiny.model_dump(), **asked})
    alone = merged.model_copy(update={"save_adapter_only": True})
    whole, laid = (
        _learn(backends, merged, first, tmp_path / "merged"),
        _learn(backends, alone, first, tmp_path / "laid"),
    )
    assert {path.name for path in laid.iterdir()} == {
        *("adapter_config.json", "adapter_model.safetensors"),
        *("probe.json", "tokenizer.json", "tokenizer_config.json"),
    }
    named = json.loads((laid / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert not Path(named).is_absolute()
    assert (laid / named).resolve() == first.folder.resolve()
    probes = [json.loads((folder / "probe.json").read_text()) for folder in (whole, laid, first.folder)]
    assert probes[0]["token_ids"] == probes[1]["token_ids"]
    assert probes[0]["log_probability"] == pytest.approx(probes[1]["log_probability"], abs=1e-3)
    (score,) = backends.scorer(alone).score(laid, [human_texts(40, seed=9)[0]], (1.0,), lambda *_: None)
    assert -score.nll[0] == pytest.approx(probes[1]["log_probability"], abs=0.5)
    sampler = backends.sampler(Sampling(sampler="transformers", max_tokens=8))
    texts = [next(iter(sampler.sample(folder, [Prompt("The", 1)], lambda *_: None))).text for folder in (whole, laid)]
    assert texts[0] == texts[1]


def test_an_adapter_moves_with_its_base(
    backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    shutil.copytree(first.folder, tmp_path / "store" / "base")
    asked = {
        "init_from": "base",
        "lora_rank": 4,
        "save_adapter_only": True,
        "optimizer": "adamw",
        "learning_rate": 0.01,
    }
    settings = TransformerTraining.model_validate({**tiny.model_dump(), **asked})
    beside = Trained(tmp_path / "store" / "base", first.result, first.corpus)
    _learn(backends, settings, beside, tmp_path / "store" / "model")
    (tmp_path / "store").rename(tmp_path / "moved")
    scores = backends.scorer(settings).score(tmp_path / "moved" / "model", ["The river."], (1.0,), lambda *_: None)
    assert scores[0].tokens > 2


def test_what_deepspeed_gathered_is_written_and_opened_by_the_first_process_alone(
    first: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load_model(first.folder)
    gathered = {name: weight + 1 for name, weight in network.state_dict().items()}
    accelerator = SimpleNamespace(get_state_dict=lambda _: gathered, unwrap_model=lambda model: model)
    kind = {"is_fsdp_enabled": False, "is_deepspeed_enabled": True, "is_world_process_zero": lambda: True}
    trainer = SimpleNamespace(model=network, model_wrapped=network, accelerator=accelerator, **kind)
    stage_three = SimpleNamespace(is_zero3=lambda: True)
    monkeypatch.setattr(deepspeed, "_hf_deepspeed_config_weak_ref", lambda: stage_three)
    export = ExportFormat(keep_adapter=False, dtype=torch.float32, probe="The river.")
    export_model(trainer, load_tokenizer(first.folder), tmp_path / "model", export)
    written, before = (load_file(folder / "model.safetensors") for folder in (tmp_path / "model", first.folder))
    assert all(weight.equal(before[name] + 1) for name, weight in written.items())
    assert (tmp_path / "model" / "probe.json").exists()


def test_a_training_without_steps_stores_the_base_model_as_it_is(
    backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    folder = tmp_path / "same"
    folder.mkdir()
    settings = TransformerTraining.model_validate(
        {**tiny.model_dump(), "init_from": "base", "base_model": str(first.folder), "generation_0_max_steps": 0}
    ).model_copy(update={"max_steps": 0})
    job = TrainJob(
        settings=settings, corpus=TrainingCorpus(["a"], []), initial_weights=first.folder, folder=folder, seed=1
    )
    result = backends.trainer().train(job, lambda *_: None)
    assert (result.steps, result.tokens) == (0, 0)
    texts = human_texts(8, seed=2)
    scorer = backends.scorer(settings)
    before, after = (scorer.score(model, texts, (1.0,), lambda *_: None) for model in (first.folder, folder))
    assert before == after
    assert (folder / "probe.json").exists()


def test_no_steps_without_a_base_model_are_refused(tiny: TransformerTraining) -> None:
    with pytest.raises(ValueError, match=r"train\.base_model is not set"):
        TransformerTraining.model_validate({**tiny.model_dump(), "generation_0_max_steps": 0})
