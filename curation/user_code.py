"""Load the Python objects that a recipe names: filters, metrics, prompt templates and rewards.

Three forms of reference are accepted everywhere:

* `package.module:name`: an import path; the package is installed, or on `PYTHONPATH`;
* `folder/file.py:name`: a file, relative to the working directory;
* `name`: an entry point that an installed package declares, in the group of the extension point.
"""

import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from heirloom.errors import HeirloomError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class ExtensionPoint:
    """One setting that takes user code beside its built-in names."""

    setting: str
    """Recipe key, for error messages."""
    noun: str
    """The kind of object that is loaded, for error messages."""
    group: str
    """Entry point group."""

    def load(self, reference: str, builtin_names: Collection[str] = ()) -> Any:  # noqa: ANN401  (any callable or class)
        """The object that a reference names.

        Args:
            reference: an import path, a file path or the name of an entry point.
            builtin_names: names that the setting accepts besides, for the message about an unknown one.

        Raises:
            HeirloomError: there is no such name, or its module cannot be imported.
        """
        module_path, name = self.resolve(reference, builtin_names)
        try:
            module = _load_file(Path(module_path)) if module_path.endswith(".py") else _import(module_path)
        except (ImportError, OSError, SyntaxError) as error:
            raise HeirloomError(
                f"{self.setting}: {module_path} in `{reference}` cannot be imported: {error}; "
                "install it, put its folder on PYTHONPATH, or name the file as file.py:name"
            ) from error
        found: Any = module
        for part in name.split("."):
            if not hasattr(found, part):
                public = [known for known in vars(module) if not known.startswith("_")]
                raise HeirloomError(f"{self.setting}: there is no {name} in {module_path}.{did_you_mean(name, public)}")
            found = getattr(found, part)
        if not callable(found):
            raise HeirloomError(
                f"{self.setting}: `{reference}` is a {type(found).__name__}; name a {self.noun}, which is callable"
            )
        return found

    def resolve(self, reference: str, builtin_names: Collection[str] = ()) -> tuple[str, str]:
        """The module or file of a reference, and the name of the object in it. Nothing is imported.

        Args:
            reference: an import path, a file path or the name of an entry point.
            builtin_names: names that the setting accepts besides, for the message about an unknown one.

        Raises:
            HeirloomError: it is none of the three.
        """
        module_path, colon, name = self._target(reference, builtin_names).rpartition(":")
        if not colon or not module_path or not name:
            raise HeirloomError(
                f"{self.setting}: `{reference}` is not a reference to a {self.noun}; "
                "write package.module:name or file.py:name"
            )
        return module_path, name

    def source_hash(self, reference: str) -> str:
        """Digest of the source file of an object, for the fingerprint of what is computed with it.

        Only its own file counts: another version of a module that it imports gives the same digest.

        Raises:
            HeirloomError: the object cannot be loaded.
        """
        loaded = self.load(reference)
        # An object with `__call__` has no source file of its own; its class has. Compiled code has none at all.
        for candidate in (inspect.unwrap(loaded), type(loaded)):
            with contextlib.suppress(TypeError):
                return _hash(Path(inspect.getfile(candidate)).read_bytes())
        return ""

    def entry_point_names(self) -> list[str]:
        """Names that installed packages declare in this group."""
        return sorted({entry_point.name for entry_point in importlib.metadata.entry_points(group=self.group)})

    def _target(self, reference: str, builtin_names: Collection[str]) -> str:
        if ":" in reference:
            return reference
        for entry_point in importlib.metadata.entry_points(group=self.group, name=reference):
            return entry_point.value
        known = [*builtin_names, *self.entry_point_names()]
        names = f" Known names: {', '.join(known)}." if known else ""
        raise HeirloomError(
            f"{self.setting}: there is no {self.noun} `{reference}`.{did_you_mean(reference, known)}{names} "
            f"For your own {self.noun} write package.module:name or file.py:name"
        )


FILTERS = ExtensionPoint(setting="curate.filters", noun="filter", group="heirloom.filters")
METRICS = ExtensionPoint(setting="evaluate.custom_metrics", noun="metric", group="heirloom.metrics")
PROMPT_TEMPLATES = ExtensionPoint(
    setting="prompts.template_name", noun="prompt template", group="heirloom.prompt_templates"
)
REWARDS = ExtensionPoint(setting="curate.best_of.objective", noun="reward", group="heirloom.rewards")


@dataclass(frozen=True)
class UserCode:
    """One object of a user's that a recipe names."""

    extension_point: ExtensionPoint
    reference: str

    def load(self) -> object:
        """Import the object.

        Raises:
            HeirloomError: there is no such object.
        """
        return self.extension_point.load(self.reference)

    def source_hash(self) -> str:
        """Digest of the source file of the object."""
        return self.extension_point.source_hash(self.reference)

    def source_file(self) -> str:
        """The file, or the folder of the top-level package, that an import would read. Nothing is imported.

        Raises:
            HeirloomError: there is no such file or package.
        """
        module_path, _ = self.extension_point.resolve(self.reference)
        if module_path.endswith(".py"):
            if not Path(module_path).is_file():
                raise HeirloomError(
                    f"{self.extension_point.setting}: there is no file {module_path} in {Path.cwd()}, which "
                    f"`{self.reference}` names"
                )
            return str(Path(module_path).resolve())
        # Finding a submodule would import its parents; the top-level package is found without.
        package = module_path.partition(".")[0]
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise HeirloomError(
                f"{self.extension_point.setting}: {package} in `{self.reference}` is not installed and not on "
                "PYTHONPATH"
            )
        return next(iter(spec.submodule_search_locations or []), "") or spec.origin or ""


def _import(module_path: str) -> ModuleType:
    return importlib.import_module(module_path)


def _load_file(path: Path) -> ModuleType:
    """The module of a file, executed once for each content of the file."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    content, location = path.read_bytes(), str(path.resolve())
    name = f"{path.stem}_{_hash(location.encode() + content)}"
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__ = location
    # Dataclasses and pydantic models look up their annotations here while the module is executed.
    sys.modules[name] = module
    try:
        # Not through a loader: its cache of compiled files does not notice an edit of equal size in the same second.
        exec(compile(content, location, "exec", dont_inherit=True), vars(module))  # noqa: S102  (the user's own code)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
