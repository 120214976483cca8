#!/usr/bin/env python3
"""Seed offline messages for testing: N messages for one or many users, with progress shown.

    scripts/seed_offline.py alice --count 500
    scripts/seed_offline.py alice bob carol --count 100 --text 'number {number} for {user}'

The same as `pushserver seed`: it goes through the code that publishes.
"""

import sys

from pushserver.cli import main

if __name__ == "__main__":
    sys.exit(main(["seed", *sys.argv[1:]]))
