"""The command line as a process: `dataenv`, or `python -m dataenv`. Ctrl-C ends it quietly, at whatever moment.

So does SIGTERM, which a batch system sends.
"""

import signal
import sys


def main() -> None:
    """`cli.main`, with its imports under guard too; once it is done, nothing is left that could be interrupted."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from dataenv.cli import main as command

        command()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    main()
