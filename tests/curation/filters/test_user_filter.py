import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import ValidationError

from curation.decisions import RecordSet
from curation.filters.base import FilterContext
from curation.pipeline import BUILTIN_FILTERS, CurateSettings, order_filters, run_filters
from heirloom.errors import HeirloomError

_CODE = """
from dataclasses import dataclass
from typing import Annotated, ClassVar

import pyarrow.compute as pc
from pydantic import BaseModel, Field

from curation.decisions import FilterResult


class MaxLength(BaseModel, frozen=True, extra="forbid"):
    characters: Annotated[int, Field(gt=0)] = 10

    def apply(self, records, context):
        lengths = pc.utf8_length(records.texts)
        return FilterResult.drop_where(pc.greater(lengths, self.characters), "is too long", lengths)


@dataclass(frozen=True)
class NotHuman:
    name: ClassVar[str] = "not_human"
    needs: ClassVar[tuple[str, ...]] = ("human_train",)

    def apply(self, records, context):
        return FilterResult.drop_where(pc.is_in(records.texts, value_set=context.human_train.texts), "is human")


class Undeclared:
    def apply(self, records, context):
        return FilterResult.drop_where(pc.is_in(records.texts, value_set=context.human_train.texts), "is human")


class TooFew:
    def apply(self, records, context):
        return FilterResult(reason=[""])


class WrongType:
    def apply(self, records, context):
        return [True] * len(records)


class WrongColumn:
    def apply(self, records, context):
        return FilterResult(reason=[""] * len(records), score=["high"] * len(records))


class Crashes:
    def apply(self, records, context):
        raise KeyError("lost")


class Exact:
    name = "exact"

    def apply(self, records, context):
        return FilterResult(reason=[""] * len(records))


class Unknown:
    needs = ("embedding",)

    def apply(self, records, context):
        return FilterResult(reason=[""] * len(records))


class NoFilter:
    pass
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    path = tmp_path / "my_filters.py"
    path.write_text(_CODE)
    return str(path)


def _run(filters: Sequence[str], texts: Sequence[str], **changes: object) -> list[tuple[str, str, str, float | None]]:
    chosen = CurateSettings.model_validate({"filters": filters, **changes})
    records = RecordSet([f"g{row}" for row in range(len(texts))], texts, [1] * len(texts))
    context = FilterContext(human_train=RecordSet(["h0"], ["by hand"], [0]))
    rows = [row for table in run_filters(chosen.build_filters(), records, context) for row in table.to_pylist()]
    return [(row["filter"], row["id"], row["reason"], row["score"]) for row in rows]


def test_a_filter_of_a_file_runs_among_the_built_in_ones(code: str) -> None:
    rows = _run(["empty", f"{code}:MaxLength", "exact"], ["a long text", "short", "!"])
    assert rows == [
        ("empty", "g0", "", 3.0),
        ("empty", "g1", "", 1.0),
        ("empty", "g2", "has no word", 0.0),
        ("MaxLength", "g0", "is too long", 11.0),
        ("MaxLength", "g1", "", 5.0),
        ("exact", "g1", "", None),
    ]


def test_a_filter_has_settings_of_its_own(code: str) -> None:
    rows = _run([f"{code}:MaxLength"], ["short"], settings={"MaxLength": {"characters": 4}})
    assert rows == [("MaxLength", "g0", "is too long", 5.0)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"MaxLength": {"characters": 0}}, r"curate\.settings\.MaxLength\.characters: Input should be greater than 0"),
        ({"MaxLength": {"letters": 3}}, r"curate\.settings\.MaxLength\.letters: Extra inputs are not permitted"),
        ({"MaxLenght": {}}, r"no filter of that name is in curate\.filters\. Did you mean `MaxLength`"),
        ({"TooFew": {"most": 3}}, "takes no settings"),
    ],
)
def test_wrong_settings_of_a_filter_are_refused(code: str, settings: dict[str, object], message: str) -> None:
    filters = [f"{code}:MaxLength", f"{code}:TooFew"]
    chosen = CurateSettings.model_validate({"filters": filters, "settings": settings})
    with pytest.raises(HeirloomError, match=message):
        chosen.build_filters()


def test_settings_that_no_filter_can_have_are_refused_at_once(code: str) -> None:
    with pytest.raises(ValidationError, match=r"settings of a built-in filter belong to curate\.exact"):
        CurateSettings.model_validate({"filters": [f"{code}:MaxLength"], "settings": {"exact": {}}})
    with pytest.raises(
        ValidationError, match=r"curate\.settings\.MaxLength: no filter of that name .* filters there: none"
    ):
        CurateSettings.model_validate({"filters": ["exact"], "settings": {"MaxLength": {}}})


def test_two_filters_of_one_name_are_refused(code: str, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(_CODE)
    chosen = CurateSettings(filters=(f"{code}:MaxLength", f"{other}:MaxLength"))
    with pytest.raises(HeirloomError, match="two filters have the name MaxLength; rename one of them"):
        chosen.build_filters()


def test_a_filter_gets_what_it_declares(code: str) -> None:
    assert _run([f"{code}:NotHuman"], ["by hand", "by machine"]) == [
        ("not_human", "g0", "is human", None),
        ("not_human", "g1", "", None),
    ]
    with pytest.raises(ValueError, match=r"Filter Undeclared uses context\.human_train, which it does not declare"):
        _run([f"{code}:Undeclared"], ["by hand"])


def test_a_filter_is_not_called_without_records(code: str) -> None:
    assert _run([f"{code}:Crashes"], []) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("TooFew", "Filter TooFew returned 1 rows for 2 records; return one row per record"),
        ("WrongType", "Filter WrongType returned a list; return a FilterResult"),
        ("WrongColumn", "Filter WrongColumn returned an invalid result: `score` must be a column of doubles"),
        ("NoFilter", r"is not a class with a method apply\(records, context\)"),
        ("pc", "is a module; name a filter, which is callable"),
        ("Exact", "has the name of a built-in filter, exact; choose another"),
        ("Unknown", r"needs `embedding`, which no context has\. Did you mean `embeddings`\?"),
        ("Missing", "there is no Missing in"),
    ],
)
def test_a_filter_that_breaks_the_contract_is_refused_by_name(code: str, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _run([f"{code}:{name}"], ["one", "two"])


def test_an_error_in_a_filter_keeps_its_traceback(code: str) -> None:
    with pytest.raises(KeyError, match="lost"):
        _run([f"{code}:Crashes"], ["one"])


def test_an_unknown_filter_gets_a_suggestion() -> None:
    with pytest.raises(
        ValidationError, match=r"there is no filter `minhsh`\. Did you mean `minhash`\? Known names: empty"
    ):
        CurateSettings(filters=("minhsh",))


def test_the_source_of_a_filter_and_of_a_reward_is_hashed(code: str) -> None:
    reward = f"{Path(__file__).parent.parent}/selection/test_best_of.py:by_vowels"
    chosen = CurateSettings.model_validate(
        {"filters": ["exact", "best_of", f"{code}:MaxLength"], "best_of": {"objective": reward}}
    )
    before = chosen.user_code_hashes()
    assert set(before) == {f"{code}:MaxLength", reward}
    Path(code).write_text(_CODE + "# changed\n")
    assert {name for name, digest in chosen.user_code_hashes().items() if digest != before[name]} == {
        f"{code}:MaxLength"
    }
    assert CurateSettings().user_code_hashes() == {}


def test_own_filters_follow_the_rules_about_single_texts() -> None:
    assert order_filters(["minhash", "mine:A", "exact", "pii", "mine:A"]) == ("exact", "pii", "mine:A", "minhash")
    assert order_filters(BUILTIN_FILTERS) == tuple(BUILTIN_FILTERS)


def test_a_filter_of_a_module_is_named_by_its_import_path(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(code).parent))
    assert _run(["my_filters:MaxLength"], ["short"]) == [("MaxLength", "g0", "", 5.0)]
    sys.modules.pop("my_filters")
