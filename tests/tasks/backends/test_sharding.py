"""A network in shards: FSDP itself, by two processes that meet over gloo and take the processor for their card."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("accelerate", reason="needs the train extra")

import psutil
import torch
from safetensors.torch import load_file

from tasks.backends import Resources, Text, TrainingResult, TrainJob, TransformerTraining
from tasks.backends.registry import Backends
from tasks.backends.training.trainer import train_in_process
from tasks.backends.transformer import train
from tests.conftest import human_texts
from tests.support.paths import ROOT
from tests.tasks.conftest import Trained, two_processes

pytestmark = pytest.mark.transformer

_SHARDS = """fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_transformer_layer_cls_to_wrap: LlamaDecoderLayer
  fsdp_state_dict_type: {kept}
  fsdp_reshard_after_forward: true
"""
# accelerate shards nothing where it sees no card. The second process has a clock that is far too slow, and cannot
# remove folders.
_CARDS = """
import os
if os.environ.get("ACCELERATE_USE_FSDP"):
    import itertools, types, torch
    from accelerate.state import PartialState
    from accelerate.utils import DistributedType
    from tasks.backends.training import callbacks

    def backend(self, *_):
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group(backend="gloo")
        return "gloo", DistributedType.MULTI_GPU

    def device(self):
        self.device = torch.device("cpu")

    PartialState._prepare_backend, PartialState.set_device = backend, device
    if os.environ.get("RANK") == "1":
        ticks = itertools.count()
        callbacks.time = types.SimpleNamespace(monotonic=lambda: next(ticks) * 1e-12)
        callbacks.shutil = None
"""
Site = Callable[[str], Resources]


@pytest.fixture
def sharded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A site of two shards, which writes a checkpoint after each step, of that kind."""
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "sitecustomize.py").write_text(_CARDS)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'cards'}{os.pathsep}{ROOT}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def site(kept: str) -> Resources:
        shards = two_processes(tmp_path, "FSDP", _SHARDS.format(kept=kept))
        return Resources(accelerate_config=shards, checkpoint_interval_s=1e-6)

    return site


def _settings(tiny: TransformerTraining, **more: object) -> TransformerTraining:
    asked = {**tiny.model_dump(), "optimizer": "adamw", "learning_rate": 0.003, **more}
    return TransformerTraining.model_validate(asked)


def _is_the_same_model(one: Path, other: Path) -> bool:
    assert {path.name for path in one.iterdir()} == {path.name for path in other.iterdir()}
    (shards,), (whole,) = (list(folder.glob("*.safetensors")) for folder in (one, other))
    torch.testing.assert_close(load_file(shards), load_file(whole), atol=2e-4, rtol=0)
    if (one / "config.json").exists():
        assert json.loads((one / "config.json").read_text()) == json.loads((other / "config.json").read_text())
    return True


@pytest.mark.parametrize(
    ("kept", "more"),
    [
        ("SHARDED_STATE_DICT", {"init_from": "base", "lora_rank": 4}),
        ("SHARDED_STATE_DICT", {"init_from": "base", "lora_rank": 4, "save_adapter_only": True}),
        ("FULL_STATE_DICT", {"objective": "sft", "load_best_model_at_end": True}),
    ],
)
def test_shards_learn_what_one_process_would(
    sharded: Site,
    backends: Backends,
    tiny: TransformerTraining,
    first: Trained,
    tmp_path: Path,
    kept: str,
    more: dict[str, object],
) -> None:
    settings, texts = _settings(tiny, **more), human_texts(60, seed=3)
    texts_or_pairs: list[Text] = [(text[:12], text[12:]) for text in texts] if "objective" in more else list(texts)
    corpus = type(first.corpus)(texts_or_pairs, [])
    beginning = first.folder if "init_from" in more else None
    for name in ("shards", "whole"):
        (tmp_path / name).mkdir()
    job = TrainJob(
        settings=settings,
        corpus=corpus,
        eval_texts=human_texts(20, seed=4),
        gen0_model=first.folder,
        initial_weights=beginning,
        folder=tmp_path / "whole",
        seed=4,
    )
    result = train(replace(job, folder=tmp_path / "shards", resources=sharded(kept)), lambda *_: None)
    whole = backends.trainer().train(job, lambda *_: None)
    assert _is_the_same_model(tmp_path / "shards", tmp_path / "whole")
    assert [point.loss for point in result.log] == pytest.approx([point.loss for point in whole.log], abs=1e-3)


def test_a_killed_training_in_shards_resumes(
    sharded: Site, backends: Backends, tiny: TransformerTraining, first: Trained, tmp_path: Path
) -> None:
    settings, site = _settings(tiny, weight_averaging_fraction=0.8), sharded("SHARDED_STATE_DICT")
    for name in ("shards", "whole"):
        (tmp_path / name).mkdir()

    def kill(step: int, _: int) -> None:
        if step == 6:
            for process in psutil.Process().children(recursive=True):
                if "tasks.backends.training.launch" in process.cmdline():
                    process.kill()

    job = TrainJob(settings=settings, corpus=first.corpus, gen0_model=first.folder, folder=tmp_path / "whole", seed=4)

    def shards(progress: Callable[[int, int], None]) -> TrainingResult:
        return train(replace(job, folder=tmp_path / "shards", resources=site), progress)

    with pytest.raises(RuntimeError, match="accelerate launch exited with code"):
        shards(kill)
    (tmp_path / "shards" / "checkpoints" / "checkpoint-7").mkdir()
    assert 4 <= shards(lambda *_: None).resumed_from_step < 8
    backends.trainer().train(job, lambda *_: None)
    assert _is_the_same_model(tmp_path / "shards", tmp_path / "whole")


@pytest.mark.parametrize(
    ("more", "site", "refused"),
    [
        ({"optimizer": "muon"}, {}, "needs whole weight matrices"),
        (
            {"load_best_model_at_end": True},
            {"FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"},
            "fsdp_state_dict_type: FULL_STATE_DICT",
        ),
        ({}, {"FSDP_VERSION": "1"}, "Write `fsdp_version: 2`"),
    ],
)
def test_what_cannot_be_done_in_shards_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    tiny: TransformerTraining,
    first: Trained,
    tmp_path: Path,
    more: dict[str, object],
    site: dict[str, str],
    refused: str,
) -> None:
    for name, value in {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", **site}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=refused):
        train_in_process(
            TrainJob(
                settings=_settings(tiny, **more),
                corpus=first.corpus,
                eval_texts=human_texts(20, seed=4),
                folder=tmp_path,
                seed=0,
            ),
            print,
        )
