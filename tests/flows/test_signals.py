"""Ctrl-C, SIGTERM and a closed terminal: an ordered end within seconds, one sentence, and no process left."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from flows.config.site import Site
from storage.maintenance.verify import verify
from tests.conftest import human_texts, prefect_free_environment
from tests.support.paths import ROOT
from tests.support.terminal import TerminalCommand

pytestmark = pytest.mark.processes

_SECONDS = 30
"""Five on a quiet machine; before signals were watched, an end took up to 150."""
_RUN = ["run", "ngram", "--set", "dataset=letters", "--set", "num_generations=60", "--set", "evaluate.num_samples=20"]


def _started(words: list[str], store: Path, tmp_path: Path) -> TerminalCommand:
    environment = prefect_free_environment() | {
        "HEIRLOOM_STORE": str(store),
        "PREFECT_HOME": os.environ["PREFECT_HOME"],
    }
    return TerminalCommand(words, environment, folder=tmp_path)


def _assert_ended(command: TerminalCommand, code: int, sentence: str) -> None:
    assert command.end(_SECONDS)[0] == code, command.output[-2000:]
    assert command.output.count(f"{sentence} Run the same command again to resume.") == 1, command.output[-2000:]
    assert "Traceback" not in command.output
    command.wait_until_alone()


@pytest.mark.parametrize("moment", ["starting", "generation 1 of 60"])
def test_ctrl_c_ends_a_run_in_order_and_the_same_command_can_resume(
    moment: str, ingested: Site, tmp_path: Path
) -> None:
    command = _started(_RUN, ingested.store, tmp_path)
    command.wait_for(moment)
    command.read(1)
    command.press("\x03")
    _assert_ended(command, 130, "Interrupted.")
    assert command.output.endswith("\n")
    assert command.output.rfind("\x1b[?25h") > command.output.rfind("\x1b[?25l"), "the cursor is hidden"
    assert verify(ingested.store).errors == ()


def test_ctrl_c_ends_recipes_that_run_in_parallel(ingested: Site, tmp_path: Path) -> None:
    source = str(tmp_path / "letters.jsonl")
    command = _started(["demo", "--quick", "--passages", "100", "--source", source], ingested.store, tmp_path)
    command.wait_for("generation 1 of")
    command.press("\x03")
    _assert_ended(command, 130, "Interrupted.")


def test_sigterm_ends_a_run_in_order(ingested: Site, tmp_path: Path) -> None:
    command = _started(_RUN, ingested.store, tmp_path)
    command.wait_for("generation 0 of 60")
    command.process.terminate()
    _assert_ended(command, 143, "Terminated by SIGTERM.")


@pytest.mark.parametrize("press_while_stopped", [False, True])
def test_a_stopped_run_continues_and_ctrl_c_ends_it(press_while_stopped: bool, ingested: Site, tmp_path: Path) -> None:
    command = _started(_RUN, ingested.store, tmp_path)
    command.wait_for("generation 1 of 60")
    os.kill(command.process.pid, signal.SIGSTOP)
    command.read(3)
    if press_while_stopped:
        command.press("\x03")
    os.kill(command.process.pid, signal.SIGCONT)
    if not press_while_stopped:
        command.wait_for("generation 3 of 60")
        command.press("\x03")
    _assert_ended(command, 130, "Interrupted.")
    assert verify(ingested.store).errors == ()


_TINY_MODEL = (
    *("train.num_hidden_layers=1", "train.num_attention_heads=2", "train.hidden_size=64", "train.vocab_size=400"),
    *("train.max_steps=2", "train.generation_0_max_steps=2", "train.context_length=64", "train.batch_size=4"),
    *("generate.sampler=vllm", "generate.max_tokens=48", "evaluate.num_samples=2000"),
)


@pytest.mark.transformer
@pytest.mark.skipif(not find_spec("vllm"), reason="needs vLLM")
def test_ctrl_c_ends_a_run_while_vllm_starts(ingested: Site, tmp_path: Path) -> None:
    settings = [word for setting in _TINY_MODEL for word in ("--set", setting)]
    command = _started(["run", "anchor", "--set", "dataset=letters", *settings], ingested.store, tmp_path)
    command.wait_for("sample_for_eval")
    command.read(2)
    assert any("vllm" in words.lower() for words in command.left_behind().values()), command.left_behind()
    command.press("\x03")
    _assert_ended(command, 130, "Interrupted.")
    assert verify(ingested.store).errors == ()


@pytest.mark.parametrize("presses", [1, 2])
def test_what_ctrl_c_cannot_stop_is_ended_after_seconds_or_by_a_second_ctrl_c(presses: int) -> None:
    program = (
        "import time\nfrom flows.orchestration.signals import watch_signals\nwatch_signals()\n"
        "try:\n    print('ready', flush=True)\n    time.sleep(60)\nexcept KeyboardInterrupt:\n"
        "    print('closing', flush=True)\n    for _ in range(10**11): pass"
    )
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Shells start jobs in the background with SIGINT ignored, and it stays ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  (no thread runs here)
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "closing\n"
    if presses > 1:
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=_SECONDS)
    assert process.returncode == 130
    assert errors == "heirloom: Interrupted. Run the same command again to resume.\n"
    assert time.monotonic() - started < _SECONDS


def test_ctrl_c_ends_an_ingest_with_all_its_processes(tmp_path: Path) -> None:
    texts = human_texts(3000)
    for number in range(40):
        lines = [json.dumps({"text": f"{text} Copy {number}, line {row}."}) for row, text in enumerate(texts)]
        (tmp_path / f"part-{number}.jsonl").write_text("\n".join(lines))
    command = _started(["ingest", *map(str, tmp_path.glob("*.jsonl")), "--name", "big"], tmp_path / "store", tmp_path)
    command.wait_for("ingest")
    command.press("\x03")
    _assert_ended(command, 130, "Interrupted.")


def test_ctrl_c_in_the_sql_shell_interrupts_the_statement_only(ingested: Site, tmp_path: Path) -> None:
    environment = prefect_free_environment() | {"HOME": str(tmp_path), "HEIRLOOM_STORE": str(ingested.store)}
    command = TerminalCommand(["sql"], environment, folder=tmp_path)
    command.wait_for("heirloom> ")
    command.press("select count(*) from range(100000000000) t(i), range(1000) u(j) where i % 7 = 3;\n")
    command.read(1)
    command.press("\x03")
    command.wait_for("interrupted")
    command.read(5)  # longer than a command has that does not handle Ctrl-C itself
    command.press("select 40 + 2 as answer;\n")
    command.wait_for("42")
    command.press("\x04")
    assert command.end(_SECONDS)[0] == 0
    command.wait_until_alone()


def test_ctrl_c_ends_a_long_query(ingested: Site, tmp_path: Path) -> None:
    query = "select count(*) from range(100000000000) t(i), range(1000) u(j) where i % 7 = 3"
    command = _started(["sql", query], ingested.store, tmp_path)
    command.read(5)
    command.press("\x03")
    _assert_ended(command, 130, "Interrupted.")


def test_a_closed_terminal_ends_the_command(ingested: Site, tmp_path: Path) -> None:
    command = _started(_RUN, ingested.store, tmp_path)
    command.wait_for("generation 0 of 60")
    command.hang_up()
    # An error of writing to the terminal may come before the signal, so the code is not always 129.
    assert command.process.wait(_SECONDS) != 0
    command.wait_until_alone()


def test_nohup_keeps_a_command_alive_when_its_terminal_closes() -> None:
    program = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from flows.orchestration.signals import watch_signals; watch_signals()\n"
        "signal.raise_signal(signal.SIGHUP); print('alive')"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (0, "alive\n")
