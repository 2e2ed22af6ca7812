import numpy as np
import pytest

from benchmarks.performance.semantic import representation_similarity
from curation.embeddings.base import l2_normalize


def test_representation_similarity_is_that_to_the_nearest_selected_row() -> None:
    vectors = l2_normalize(np.array([[1, 0], [0, 1], [-1, -1]], np.float32))
    found = representation_similarity(vectors, np.array([0]))
    assert (found.mean, found.minimum, found.facility_location) == pytest.approx(((1 - 2**-0.5) / 3, -(2**-0.5), 1))
