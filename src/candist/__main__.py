"""``python -m candist``."""

from candist.cli import main

main()
