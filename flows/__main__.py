"""The entry point of `heirloom`, and of `python -m flows`. It loads little before a Ctrl-C ends in one sentence."""

import sys
from pathlib import Path

from flows.orchestration.signals import exit_interrupted, watch_signals


def main() -> None:
    """Run a command; signals end it in order."""
    from flows.cli.streams import prepare_streams

    prepare_streams()  # first, since the next file that is opened gets the number of a closed stream
    watch_signals()
    try:
        from flows.cli.app import main as run_command

        run_command()
    except KeyboardInterrupt as interrupt:
        exit_interrupted(interrupt, lambda sentence: sys.stderr.write(f"heirloom: {sentence}\n"))


if __name__ == "__main__":
    # `python -m` puts the working folder first, where a file of the user can have the name of any module.
    if sys.path and Path(sys.path[0]) == Path.cwd():
        sys.path.append(sys.path.pop(0))
    main()
