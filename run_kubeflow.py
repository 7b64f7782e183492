"""Runs a recipe on Kubeflow: `python run_kubeflow.py --help` says how."""

import os
import sys

from branchline.pipeline.kubeflow.main import main

if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # as run_local.py does: threads of TensorFlow may keep the interpreter
