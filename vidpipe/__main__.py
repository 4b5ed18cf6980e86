"""`python -m vidpipe`: the same as `vidpipe`."""

from vidpipe.cli import main

main()
