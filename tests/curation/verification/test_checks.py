"""Checks are read from JSON, and programs are found in answers."""

import pytest

from curation.verification.checks import Answer, PythonTests, encode_check, parse_check
from curation.verification.code_blocks import complete_program, extract_code
from heirloom.errors import HeirloomError


def test_a_check_reads_back_equal() -> None:
    for check in (Answer(answer="42", tolerance=0.1), PythonTests(entry_point="f", tests="assert f(1)")):
        assert parse_check(encode_check(check)) == check
        assert parse_check({"kind": check.kind, **check.model_dump(exclude={"kind"})}) == check


@pytest.mark.parametrize(
    ("encoded", "message"),
    [
        ("{", "Invalid check"),
        ("[]", "Invalid check"),
        ('{"kind": "pyton", "tests": ""}', "does not match any of the expected tags: 'python', 'answer'"),
        ('{"kind": "python", "tests": "x"}', "python.entry_point: Field required"),
        ('{"kind": "python", "entry_point": "a.b", "tests": "x"}', "python.entry_point: String should match"),
        ('{"kind": "answer", "answer": "1", "tolerence": 1}', "answer.tolerence: Extra inputs"),
    ],
)
def test_an_invalid_check_is_one_sentence(encoded: str, message: str) -> None:
    with pytest.raises(HeirloomError, match=message):
        parse_check(encoded)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("def f(): pass", "def f(): pass"),
        ("Sure!\n```python\ndef f(): pass\n```\nDone.", "def f(): pass\n"),
        ("```py\nx = 1\n```\n```python\ndef f(): pass\n```", "def f(): pass\n"),
        ("```bash\npip install x\n```\n```python\ndef f(): pass\n```", "def f(): pass\n"),
        ("```python\ndef f(): pass", "def f(): pass"),
        ("~~~python\ndef f(): return '```'\n~~~", "def f(): return '```'\n"),
        ("  ```python\n  def g(): pass\n  ```", "  def g(): pass\n"),
    ],
)
def test_the_code_block_that_defines_the_function_is_taken(answer: str, code: str) -> None:
    assert extract_code(answer, "f") == code


def test_an_answer_completes_its_prompt_by_a_body_or_by_a_whole_function() -> None:
    prompt = 'import math\n\ndef f(x):\n    """Double x."""\n'
    for answer in ("    return 2 * x\n", "```python\ndef f(x):\n    return 2 * x\n```"):
        namespace: dict[str, object] = {}
        exec(complete_program(prompt, answer, "f"), namespace)
        function = namespace["f"]
        assert callable(function)
        assert function(4) == 8
        assert "math" in namespace
