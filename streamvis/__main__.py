"""The program `streamvis`, also as `python -m streamvis`."""

import atexit
import gc
import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is still imported ends it without a traceback."""
    atexit.register(gc.freeze)  # the search for garbage at the end takes torch's modules 0.5 s
    try:
        from streamvis.cli.main import main as command_line
    except KeyboardInterrupt:
        sys.exit(130)
    command_line()


if __name__ == "__main__":
    main()
