"""`python -m pushserver` is `pushserver`."""

import sys

from pushserver.cli import main

sys.exit(main())
