"""Runs a recipe on this machine: `python run_local.py --help` says how."""

import logging
import os
import sys

from branchline.pipeline.local import main

if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # All is said and written. Left to end by itself, the interpreter may wait for threads of Beam
    # and TensorFlow, and TensorFlow 2.16 complains of module globals that are gone.
    os._exit(code)
