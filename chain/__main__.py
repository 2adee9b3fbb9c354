"""`python -m chain` is `potchain`."""

from chain.cli import main

main()
