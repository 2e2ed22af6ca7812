import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="a transformer needs the train extra")

from tasks.backends.models.loading import load_model, load_tokenizer
from tasks.backends.models.scoring import batch_nll, tokenize
from tests.tasks.conftest import Trained

pytestmark = pytest.mark.transformer


def test_a_text_is_spelled_with_its_begin_and_its_end(first: Trained) -> None:
    tokenizer = load_tokenizer(first.folder)
    assert tokenize(tokenizer, "")[0] == tokenizer.bos_token_id
    assert tokenize(tokenizer, "a")[-1] == tokenizer.eos_token_id
    assert tokenize(tokenizer, "a", closed=False) == tokenize(tokenizer, "a")[:-1]


def test_an_adapter_is_scored_with_its_base(adapter: Path) -> None:
    probe = json.loads((adapter / "probe.json").read_text())
    ((nats,),) = batch_nll(load_model(adapter), [probe["token_ids"]], [1.0])
    assert nats == pytest.approx(-probe["log_probability"], abs=1e-3)


def test_rows_of_a_batch_do_not_change_each_other(first: Trained) -> None:
    network, rows = load_model(first.folder), [[1, 5, 9, 2], [1, 7, 2]]
    together = batch_nll(network, rows, [1.0, 0.5])
    alone = [batch_nll(network, [row], [1.0, 0.5])[0] for row in rows]
    for found, expected in zip(together, alone, strict=True):
        assert found == pytest.approx(expected, abs=1e-4)
