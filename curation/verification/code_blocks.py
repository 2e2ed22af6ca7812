"""Extract the program from an answer in which a model explains it."""

import re

_FENCE = re.compile(
    r"^[ \t]*(`{3,}|~{3,})[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL
)


def extract_code(answer: str, entry_point: str = "", languages: tuple[str, ...] = ("python", "py", "")) -> str:
    """Return the code block that defines the entry point, else the first block, else the whole answer.

    Args:
        answer: text with any number of fenced code blocks, the last of which may be open.
        entry_point: name of the function that is wanted; empty for any.
        languages: tags of blocks that count; blocks with another tag are passed over.
    """
    blocks = [body for _, language, body in _FENCE.findall(answer) if language.lower() in languages]
    defining = [body for body in blocks if entry_point and defines(body, entry_point)]
    return next(iter([*defining, *blocks]), answer)


def defines(code: str, name: str) -> bool:
    """Return whether a line of the code defines this name: as a function or a class, or by an assignment."""
    return (
        re.search(rf"^(?:async\s+)?(?:def|class)\s+{re.escape(name)}\b|^{re.escape(name)}\s*=", code, re.MULTILINE)
        is not None
    )


def complete_program(prompt: str, answer: str, entry_point: str) -> str:
    """Return a program from an answer that is a whole function, or the body that continues the prompt.

    A whole function keeps what precedes it in the prompt, such as imports and helper functions.
    """
    code = extract_code(answer, entry_point)
    if not prompt or not defines(code, entry_point):
        return prompt + code
    # The prompt alone defines the entry point by its docstring; the answer then redefines it.
    return f"{prompt.rstrip()}\n    pass\n\n\n{code}" if defines(prompt, entry_point) else f"{prompt}\n{code}"
