"""``python -m xlens.cli``."""

import sys

from xlens.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
