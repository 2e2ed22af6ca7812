import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heirloom.errors import HeirloomError
from tasks.backends import NgramTraining, Prompt, Resources, Sampling, TrainingCorpus, TrainJob
from tasks.backends.workers.process import Worker, WorkerError
from tests.support.paths import ROOT
from tests.support.progress import ignore_progress
from tests.support.waiting import until

_CORPUS = TrainingCorpus(["the old river remembers the garden"] * 300, ["the river forgets"] * 301)
_OWNER = """
import subprocess, sys, time
from pathlib import Path
from tasks.backends.workers.process import Worker
worker = Worker("ngram", Path(sys.argv[1]), 1)
# Holds the owner's end of the pipe open, so that its closing is not what ends the child.
holder = subprocess.Popen(["sleep", "600"], pass_fds=[worker._pipe.fileno()])
print(worker._process.pid, holder.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    started = Worker("ngram", tmp_path / "logs" / "ngram-1.log", 1)
    yield started
    started.close()


def _job(folder: Path, corpus: TrainingCorpus = _CORPUS) -> TrainJob[NgramTraining]:
    return TrainJob(settings=NgramTraining(), corpus=corpus, folder=folder, seed=0)


def _trained(worker: Worker, folder: Path) -> Path:
    folder.mkdir()
    worker.call("train", ignore_progress, _job(folder))
    return folder


def _gone(pid: int) -> bool:
    """Whether a process has ended, reaped by its new parent or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_call_gives_back_what_the_child_answers(worker: Worker, tmp_path: Path) -> None:
    model = _trained(worker, tmp_path / "model")
    (score,) = worker.call("score", ignore_progress, model, ["the river"], (1.0,))
    assert (model / "ngram.json").is_file()
    assert score.tokens == 3
    assert score.nll[0] > 0


def test_a_call_without_an_answer_gives_none(worker: Worker, tmp_path: Path) -> None:
    model = _trained(worker, tmp_path / "model")
    sampling = Sampling(sampler="ngram")
    assert worker.call("sample", ignore_progress, sampling, Resources(), model, []) is None


def test_a_stream_gives_every_answer_in_its_order(worker: Worker, tmp_path: Path) -> None:
    model = _trained(worker, tmp_path / "model")
    prompts = [Prompt("the old", seed) for seed in range(7)]
    sampling = Sampling(sampler="ngram", max_tokens=4)
    batches = list(worker.stream("sample", ignore_progress, sampling, Resources(), model, prompts))
    assert len(batches) == 7
    alone = [worker.call("sample", ignore_progress, sampling, Resources(), model, [prompt]) for prompt in prompts]
    assert batches == alone


def test_a_stream_can_be_read_while_it_is_being_made(worker: Worker, tmp_path: Path) -> None:
    model = _trained(worker, tmp_path / "model")
    reported = []
    answers = worker.stream(
        "sample",
        lambda done, of: reported.append((done, of)),
        Sampling(sampler="ngram", max_tokens=2),
        Resources(),
        model,
        [Prompt("", seed) for seed in range(400)],
    )
    next(answers)
    assert len(reported) < 8
    assert sum(1 for _ in answers) == 399
    assert len(reported) == 8


def test_leaving_a_stream_early_ends_the_child(worker: Worker, tmp_path: Path) -> None:
    model = _trained(worker, tmp_path / "model")
    prompts = [Prompt("", seed) for seed in range(50)]
    answers = worker.stream("sample", ignore_progress, Sampling(sampler="ngram"), Resources(), model, prompts)
    next(answers)
    answers.close()
    assert not worker.alive
    assert _gone(worker._process.pid)


def test_progress_of_the_child_is_reported_to_the_caller(worker: Worker, tmp_path: Path) -> None:
    reported: list[tuple[int, int]] = []
    worker.call("train", lambda *done_of: reported.append(done_of), _job(tmp_path))
    assert reported == [(0, 601), (200, 601), (400, 601), (600, 601)]


def test_a_heirloom_error_in_the_child_arrives_as_one(worker: Worker, tmp_path: Path) -> None:
    with pytest.raises(HeirloomError, match=r"is not an n-gram model\. Expected ngram\.json"):
        worker.call("score", ignore_progress, tmp_path, ["a"], (1.0,))
    assert worker.alive


def test_a_worker_goes_on_after_it_refused(worker: Worker, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="empty"):
        worker.call("train", ignore_progress, _job(tmp_path, TrainingCorpus([], [])))
    assert _trained(worker, tmp_path / "model").is_dir()


def test_another_exception_arrives_as_a_worker_error_with_the_last_words(worker: Worker, tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="ngram process failed during train: FileNotFoundError") as failed:
        worker.call("train", ignore_progress, _job(tmp_path / "nowhere"))
    assert str(tmp_path / "logs" / "ngram-1.log") in str(failed.value)
    assert "Traceback" in str(failed.value) or "write_text" in str(failed.value)
    assert worker.alive


def test_an_unknown_function_is_a_worker_error(worker: Worker) -> None:
    with pytest.raises(WorkerError, match="no attribute 'dream'"):
        worker.call("dream", ignore_progress)


def test_a_killed_child_is_a_worker_error_that_names_its_log(worker: Worker, tmp_path: Path) -> None:
    # Stopped first, so that it cannot have answered before it dies.
    os.kill(worker._process.pid, signal.SIGSTOP)
    answers = worker.stream("train", ignore_progress, _job(tmp_path))
    os.kill(worker._process.pid, signal.SIGKILL)
    with pytest.raises(WorkerError, match="The ngram process died during train") as died:
        list(answers)
    assert str(tmp_path / "logs" / "ngram-1.log") in str(died.value)
    assert not worker.alive


def test_asking_a_child_that_died_while_idle_is_a_worker_error(worker: Worker, tmp_path: Path) -> None:
    _trained(worker, tmp_path / "model")
    os.kill(worker._process.pid, signal.SIGKILL)
    worker._process.wait()
    assert not worker.alive
    with pytest.raises(WorkerError, match="died during score"):
        worker.call("score", ignore_progress, tmp_path / "model", ["a"], (1.0,))


def test_closing_ends_the_child(worker: Worker) -> None:
    assert worker.alive
    worker.close()
    assert not worker.alive
    assert _gone(worker._process.pid)


def test_closing_twice_does_no_harm(worker: Worker) -> None:
    worker.close()
    worker.close()
    assert not worker.alive


@pytest.mark.processes
def test_the_child_ends_when_its_owner_is_killed(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(tmp_path / "child.log")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert owner.stdout is not None
    child, holder = map(int, owner.stdout.readline().split())
    try:
        assert not _gone(child)
        owner.kill()
        owner.wait()
        until(lambda: _gone(child), "the end of the child")  # the process that holds the pipe sleeps for longer
    finally:
        os.kill(holder, signal.SIGKILL)
        owner.stdout.close()


@pytest.mark.processes
def test_a_backend_whose_library_is_not_installed_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('torch is not here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = Worker("vae", tmp_path / "vae.log", 1)
    with pytest.raises(HeirloomError, match=r"tasks\.backends\.toy\.vae cannot be imported: torch is not here"):
        worker.call("train", ignore_progress)
    worker.close()


def test_a_worker_of_an_unknown_name_is_not_started(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="telepathy"):
        Worker("telepathy", tmp_path / "telepathy.log", 1)
    assert not (tmp_path / "telepathy.log").exists()
