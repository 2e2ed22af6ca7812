import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="a transformer needs the train extra")

from tasks.backends.models.loading import open_network, read_tokenizer
from tasks.backends.models.scoring import nats_of, spell
from tests.tasks.conftest import Trained

pytestmark = pytest.mark.transformer


def test_a_text_is_spelled_with_its_begin_and_its_end(first: Trained) -> None:
    tokenizer = read_tokenizer(first.folder)
    assert spell(tokenizer, "")[0] == tokenizer.bos_token_id
    assert spell(tokenizer, "a")[-1] == tokenizer.eos_token_id
    assert spell(tokenizer, "a", closed=False) == spell(tokenizer, "a")[:-1]


def test_an_adapter_is_scored_with_its_base(adapter: Path) -> None:
    probe = json.loads((adapter / "probe.json").read_text())
    ((nats,),) = nats_of(open_network(adapter), [probe["token_ids"]], [1.0])
    assert nats == pytest.approx(-probe["log_probability"], abs=1e-3)


def test_rows_of_a_batch_do_not_change_each_other(first: Trained) -> None:
    network, rows = open_network(first.folder), [[1, 5, 9, 2], [1, 7, 2]]
    together = nats_of(network, rows, [1.0, 0.5])
    alone = [nats_of(network, [row], [1.0, 0.5])[0] for row in rows]
    for found, expected in zip(together, alone, strict=True):
        assert found == pytest.approx(expected, abs=1e-4)
