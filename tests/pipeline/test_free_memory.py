"""Memory that was freed goes back to the operating system."""

import ctypes
import subprocess
import sys

import pytest

FREE_AND_TELL = """
from branchline.pipeline.free_memory import free_memory

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

pieces = [bytes(4000) for _ in range(50_000)]  # 200 MB
del pieces[:-1]  # the last one lies behind all others
before = held()
free_memory()
print(before - held())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_what_lies_before_a_piece_in_use_is_given_back():
    told = subprocess.run(
        [sys.executable, "-c", FREE_AND_TELL], check=True, capture_output=True, text=True
    )
    assert int(told.stdout) > 150e6
