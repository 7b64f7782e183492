"""Runs a recipe on this machine: `python run_local.py --help` says how."""

import os
import sys

from branchline.pipeline.local import main

if __name__ == "__main__":
    code = main()
    if code == 130:  # threads of Beam and TensorFlow may still be at work, and would be waited for
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
