"""`python -m flows` is `heirloom`."""

from flows.cli import main

main()
