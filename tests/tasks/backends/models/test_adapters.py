import json
from pathlib import Path

from tasks.backends.models.adapters import adapter_base_path, vllm_max_lora_rank


def _adapter(folder: Path, base: str, rank: int = 4) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base, "r": rank}))
    return folder


def test_a_whole_model_is_laid_over_nothing(tmp_path: Path) -> None:
    assert adapter_base_path(tmp_path) is None


def test_a_base_beside_the_adapter_is_found_wherever_the_store_is(tmp_path: Path) -> None:
    (tmp_path / "store" / "base").mkdir(parents=True)
    adapter = _adapter(tmp_path / "store" / "run" / "model", "../../base")
    assert adapter_base_path(adapter) == str(tmp_path / "store" / "base")
    (tmp_path / "store").rename(tmp_path / "moved")
    assert adapter_base_path(tmp_path / "moved" / "run" / "model") == str(tmp_path / "moved" / "base")


def test_a_base_known_by_its_name_keeps_it(tmp_path: Path) -> None:
    assert adapter_base_path(_adapter(tmp_path / "model", "somebody/some-model")) == "somebody/some-model"


def test_a_rank_is_the_least_that_vllm_knows(tmp_path: Path) -> None:
    assert [vllm_max_lora_rank(_adapter(tmp_path / str(rank), "x", rank)) for rank in (1, 8, 9, 65)] == [8, 8, 16, 128]
