"""Run the command line with ``python -m gpufuse``."""

import sys

from gpufuse.cli import main

sys.exit(main())
