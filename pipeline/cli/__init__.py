"""The command line: `vigil --help`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 not as it should be, 2 a fault a person can mend, 130 interrupted."""
    from pipeline.cli.app import app
    from pipeline.cli.show import fail
    from pipeline.errors import VigilError

    try:
        app()
    except VigilError as error:
        sys.exit(fail(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
