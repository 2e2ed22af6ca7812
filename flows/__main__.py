"""`python -m flows` is `heirloom`."""

from flows.cli.app import main

main()
