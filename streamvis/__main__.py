"""`python -m streamvis`."""

from streamvis.cli.main import main

main()
