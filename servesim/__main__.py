"""``python -m servesim``: the command line."""

import sys

from servesim.cli import main

if __name__ == "__main__":
    sys.exit(main())
