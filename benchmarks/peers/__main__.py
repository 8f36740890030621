"""The process that `peers.compare` starts: FILE THREADS ROUNDS [NAME ...]."""

import sys

from .measure import measure

if __name__ == "__main__":
    path, threads, rounds, *only = sys.argv[1:]
    measure(path, int(threads), int(rounds), only)
