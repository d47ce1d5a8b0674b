"""`python -m dataenv` is the command line."""

from dataenv.cli import main

main()
