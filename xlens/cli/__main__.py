"""``python -m xlens.cli``."""

import sys

from xlens.cli import main

if __name__ == "__main__":
    sys.exit(main())
