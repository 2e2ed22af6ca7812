"""Load and run a user's filter: a class with a method `apply`, and optional class attributes `name` and `needs`.

It is instantiated with its table of `[curate.settings]`. A pydantic model or a dataclass gets its fields validated;
another class takes no settings.
"""

import dataclasses
import inspect
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, get_args

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from curation.decisions import FilterResult, RecordSet
from curation.filters.base import FilterContext, Need
from curation.user_code import FILTERS
from heirloom.errors import HeirloomError, did_you_mean


class UserFilterSettings(BaseModel):
    """The settings of a user's filter, as they stand in the recipe."""

    model_config = ConfigDict(frozen=True, extra="allow")


class _Implementation(Protocol):
    """What a user's class must have."""

    def apply(self, records: RecordSet, context: "_DeclaredContext", /) -> FilterResult: ...


@dataclass(frozen=True)
class UserFilter:
    """An instance of a user's class as a `Filter`."""

    name: str
    settings: UserFilterSettings
    needs: Collection[Need]
    implementation: _Implementation

    def apply(self, records: RecordSet, context: FilterContext) -> FilterResult:
        """Call the user's `apply`, unless there is no record.

        Raises:
            HeirloomError: it uses something of the context that its `needs` do not name.
        """
        if not len(records):
            return FilterResult(reason=())
        result: FilterResult = self.implementation.apply(records, _DeclaredContext(self, context))
        return result


class _DeclaredContext:
    """A context that refuses what a filter does not declare: it would not be loaded, and look as if it were empty."""

    def __init__(self, user_filter: UserFilter, context: FilterContext) -> None:
        self._filter, self._context = user_filter, context

    def __getattr__(self, name: str) -> object:
        if name in get_args(Need) and name not in self._filter.needs:
            raise HeirloomError(
                f'Filter {self._filter.name} uses context.{name}, which it does not declare; add needs = ("{name}",)'
            )
        return getattr(self._context, name)


def load_user_filter(
    reference: str, settings: Mapping[str, Mapping[str, object]], builtin_names: Collection[str]
) -> UserFilter:
    """The filter that a reference names, with the settings under its name.

    Args:
        reference: `package.module:name`, `file.py:name`, or the name of an entry point.
        settings: `[curate.settings]`, by the names of filters.
        builtin_names: names that a user's filter cannot have.

    Raises:
        HeirloomError: it cannot be loaded, is not a filter, or does not accept its settings.
    """
    loaded = FILTERS.load(reference, builtin_names)
    name = getattr(loaded, "name", None)
    if not isinstance(name, str):
        name = reference.rpartition(":")[2]
    if name in builtin_names:
        raise HeirloomError(f"curate.filters: `{reference}` has the name of a built-in filter, {name}; choose another")
    if not inspect.isclass(loaded) or not callable(getattr(loaded, "apply", None)):
        raise HeirloomError(f"curate.filters: `{reference}` is not a class with a method apply(records, context)")
    values = settings.get(name, {})
    implementation = _instantiate(loaded, name, values)
    needs = tuple(getattr(implementation, "needs", ()))
    for need in needs:
        if need not in get_args(Need):
            raise HeirloomError(
                f"Filter {name} needs `{need}`, which no context has.{did_you_mean(str(need), get_args(Need))} "
                f"Known: {', '.join(get_args(Need))}"
            )
    return UserFilter(name, UserFilterSettings.model_validate(values), needs, implementation)


def _instantiate(filter_class: type, name: str, values: Mapping[str, object]) -> Any:  # noqa: ANN401
    if issubclass(filter_class, BaseModel) or dataclasses.is_dataclass(filter_class):
        try:
            return TypeAdapter(filter_class).validate_python(dict(values))
        except ValidationError as error:
            problems = [
                f"curate.settings.{'.'.join([name, *map(str, problem['loc'])])}: {problem['msg']}"
                for problem in error.errors()
            ]
            raise HeirloomError("; ".join(problems)) from error
    if values:
        raise HeirloomError(
            f"curate.settings.{name}: the filter takes no settings; make its class a pydantic model or a dataclass"
        )
    return filter_class()
