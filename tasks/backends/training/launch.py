"""A training launched by `accelerate`, as one process or several, as the site's configuration says.

The processes read what they are asked for from a file beside the draft's checkpoints, tell their progress line by line, and
leave their lesson in a file; they are of this worker's group, and end with it.
"""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

from heirloom.errors import HeirloomError
from tasks.backends.processes import SOURCE_ROOT
from tasks.backends.types import Progress, TrainingResult

_ASKED, _ANSWER = ".asked.pickle", ".lesson.pickle"
_MARK = "heirloom-step "


def run_accelerate(configuration: str, asked: tuple[Any, ...], progress: Progress) -> TrainingResult:
    """Train in processes of accelerate's; `asked` is what `transformer.train` was.

    Raises:
        HeirloomError: there is no such configuration, or the training was refused.
        RuntimeError: a process failed.
    """
    if not Path(configuration).is_file():
        raise HeirloomError(
            f"there is no configuration of accelerate at {configuration}; write one with `accelerate config`"
        )
    folder: Path = asked[6]
    (folder / _ASKED).write_bytes(pickle.dumps(asked))
    (folder / _ANSWER).unlink(missing_ok=True)
    root = str(SOURCE_ROOT)
    code = f"import sys; sys.path.insert(0, {root!r}); from tasks.backends.training.launch import worker_main; worker_main({str(folder)!r})"
    starter = folder / ".launched.py"
    starter.write_text(code)
    words = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", configuration, str(starter)]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)  # noqa: S603
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(_MARK):
            progress(*json.loads(line.removeprefix(_MARK)))
        else:
            print(line, end="", flush=True)  # noqa: T201  (the log of this process)
    code_of_exit = process.wait()
    answer = folder / _ANSWER
    found = pickle.loads(answer.read_bytes()) if answer.exists() else None  # noqa: S301  (written by our own process)
    for written in (answer, folder / _ASKED, starter):
        written.unlink(missing_ok=True)
    if isinstance(found, str):
        raise HeirloomError(found)
    if code_of_exit or not isinstance(found, TrainingResult):
        raise RuntimeError(f"accelerate ended with code {code_of_exit}")
    return found


def worker_main(folder: str) -> None:
    """One process of a launched training."""
    from accelerate import PartialState

    from tasks.backends.training.trainer import explain_oom, train_in_process

    asked = pickle.loads((Path(folder) / _ASKED).read_bytes())  # noqa: S301  (written by our own process)
    try:
        with explain_oom(asked[0]):
            answer: TrainingResult | str = train_in_process(*(*asked, _report_progress))
    except ValueError as error:
        answer = str(error)
    processes = PartialState()
    if processes.is_main_process:
        (Path(folder) / _ANSWER).write_bytes(pickle.dumps(answer))
    if isinstance(answer, TrainingResult):
        processes.wait_for_everyone()
    # The group's threads hold tensors, and must not outlive the interpreter.
    processes.destroy_process_group()


def _report_progress(done: int, of: int) -> None:
    print(f"{_MARK}{json.dumps([done, of])}", flush=True)  # noqa: T201  (read by whoever launched this)
