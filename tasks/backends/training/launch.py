"""Run a training with `accelerate launch`, as one process or several, according to the site's configuration file.

The parent pickles the job into its output folder and starts this module as the program of each process. The processes
read the job, print progress lines that the parent parses, and the main process pickles the result into the folder. They
belong to the process group of the worker that launches them, and are killed with it.
"""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

from heirloom.errors import HeirloomError
from tasks.backends.processes import SOURCE_ROOT
from tasks.backends.settings.training import TransformerTraining
from tasks.backends.types import Progress, TrainingResult, TrainJob

_JOB_FILE, _RESULT_FILE = ".train_job.pickle", ".train_result.pickle"
_PROGRESS_PREFIX = "heirloom-step "


def run_accelerate(job: TrainJob[TransformerTraining], progress: Progress) -> TrainingResult:
    """Train in processes started by `accelerate launch` with `job.resources.accelerate_config`.

    Raises:
        HeirloomError: the configuration file does not exist, or the training refused the job.
        RuntimeError: a process failed.
    """
    configuration = job.resources.accelerate_config
    if not Path(configuration).is_file():
        raise HeirloomError(
            f"resources.accelerate_config is {configuration!r}, which does not exist. Create it with `accelerate "
            "config`."
        )
    job_file, result_file = job.folder / _JOB_FILE, job.folder / _RESULT_FILE
    job_file.write_bytes(pickle.dumps(job))
    result_file.unlink(missing_ok=True)
    process = subprocess.Popen(  # noqa: S603  (our own interpreter and module)
        [
            *(sys.executable, "-m", "accelerate.commands.launch", "--config_file", configuration),
            *("--module", "tasks.backends.training.launch", str(job.folder)),
        ],
        env=_launch_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(_PROGRESS_PREFIX):
            progress(*json.loads(line.removeprefix(_PROGRESS_PREFIX)))
        else:
            print(line, end="", flush=True)  # noqa: T201  (the log of this process)
    exit_code = process.wait()
    result = pickle.loads(result_file.read_bytes()) if result_file.exists() else None  # noqa: S301  (our own file)
    result_file.unlink(missing_ok=True)
    job_file.unlink(missing_ok=True)
    if isinstance(result, HeirloomError):
        raise result
    if exit_code or not isinstance(result, TrainingResult):
        raise RuntimeError(f"accelerate launch exited with code {exit_code}")
    return result


def worker_main(folder: Path) -> None:
    """Run one process of a launched training: train the job of the folder and write the result there."""
    from accelerate import PartialState

    from tasks.backends.training.trainer import explain_oom, train_in_process

    job: TrainJob[TransformerTraining] = pickle.loads((folder / _JOB_FILE).read_bytes())  # noqa: S301  (our own file)
    result: TrainingResult | HeirloomError
    try:
        with explain_oom(job.settings):
            result = train_in_process(job, _print_progress)
    except HeirloomError as error:
        result = error
    processes = PartialState()
    if processes.is_main_process:
        (folder / _RESULT_FILE).write_bytes(pickle.dumps(result))
    if isinstance(result, TrainingResult):
        processes.wait_for_everyone()
    # The threads of the process group hold tensors, and would outlive the interpreter.
    processes.destroy_process_group()


def _launch_environment() -> dict[str, str]:
    """Return this environment with our packages importable, and without the current directory on the module path."""
    paths = [str(SOURCE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1"}


def _print_progress(done: int, of: int) -> None:
    print(f"{_PROGRESS_PREFIX}{json.dumps([done, of])}", flush=True)  # noqa: T201  (parsed by the parent)


if __name__ == "__main__":
    worker_main(Path(sys.argv[1]))
