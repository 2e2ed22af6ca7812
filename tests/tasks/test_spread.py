"""Pieces of a stage, whoever does them: the same answers in the same order."""

import threading
from importlib.util import find_spec

import numpy as np
import pyarrow as pa
import pytest
from prefect import flow

from curation.stages import CurateSettings
from tasks.coat import without_coat
from tasks.curate import _encoded
from tasks.spread import HERE, runner, spread
from tests.conftest import human_texts

_PIECES = [(pa.array(human_texts(40, seed=seed)), CurateSettings(encoder="hashing")) for seed in range(3)]


@pytest.mark.usefixtures("prefect")
@pytest.mark.parametrize("ray", ["", HERE])
def test_pieces_come_back_in_order_and_the_same_from_threads_and_from_ray(ray: str) -> None:
    if ray and find_spec("ray") is None:
        pytest.skip("Ray is not installed")

    # What a flow was given cannot always travel.
    @flow(task_runner=runner(ray), validate_parameters=False)
    def spreading(lock: object) -> list[bytes]:
        assert lock
        return [vectors.tobytes() for vectors in spread(_encoded, _PIECES, "embed")]

    with without_coat():
        alone = [vectors.tobytes() for vectors in spread(_encoded, _PIECES, "embed")]
    assert len(set(alone)) == len(_PIECES)
    assert spreading(threading.Lock()) == alone
    assert np.frombuffer(alone[0], np.float16).size == 40 * 256


def test_nothing_to_do_is_no_piece() -> None:
    assert list(spread(_encoded, [], "embed")) == []
