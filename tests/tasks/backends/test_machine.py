import pytest

from tasks.backends.machine import this_machine, visible_gpus

_LISTING = """0, GPU-aaaa1111, 81559, 80000
1, GPU-bbbb2222, 81559, 40000
2, GPU-cccc3333, 24564, 24000
"""


def test_memory_of_this_machine_is_at_least_what_is_free() -> None:
    machine = this_machine()
    assert 0 < machine.free_memory <= machine.memory


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, ["0", "1", "2"]),
        ("2,0", ["2", "0"]),
        ("GPU-bbbb", ["GPU-bbbb"]),
        ("1,7,2", ["1"]),
        ("", []),
        ("-1", []),
    ],
)
def test_gpus_are_those_that_the_environment_allows_in_its_order(visible: str | None, expected: list[str]) -> None:
    assert [gpu.name for gpu in visible_gpus(_LISTING, visible)] == expected


def test_memory_of_gpus_is_in_bytes() -> None:
    (gpu,) = visible_gpus(_LISTING, "1")
    assert (gpu.memory, gpu.free_memory) == (81559 << 20, 40000 << 20)
