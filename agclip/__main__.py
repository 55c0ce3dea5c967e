"""`python -m agclip` is the command `agclip`."""

import sys

from agclip.cli import main

if __name__ == "__main__":
    sys.exit(main())
