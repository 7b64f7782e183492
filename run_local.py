"""Runs a recipe on this machine: `python run_local.py --help` says how."""

import os
import sys

from branchline.pipeline.local import main

if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    if code == 130:  # threads of Beam and TensorFlow may still be at work, and would be waited for
        os._exit(code)
    # All is said; TensorFlow 2.16 prints "Exception ignored in AtomicFunction.__del__" on its way
    # out (its module globals are gone by then).
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.exit(code)
