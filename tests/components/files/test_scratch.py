"""A process's own folder for temporary files."""

import os
import subprocess
import tempfile

import pytest

from branchline.components.files.scratch import outer_temporary_folder, own_temporary_folder


@pytest.fixture(params=["named", "not-named"])
def outer(request, tmp_path, monkeypatch):
    """The system's folder, by TMPDIR or by Python's own choice."""
    if request.param == "named":
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        monkeypatch.setattr(tempfile, "tempdir", None)
    else:
        monkeypatch.delenv("TMPDIR", raising=False)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_what_is_written_meanwhile_goes_with_the_folder(outer, error):
    before = os.environ.get("TMPDIR")
    try:
        with own_temporary_folder() as folder:
            assert os.path.dirname(folder) == str(outer) == outer_temporary_folder()
            path = tempfile.mkstemp()[1]
            told = subprocess.run(["mktemp"], capture_output=True, text=True).stdout
            assert os.path.dirname(path) == os.path.dirname(told.strip()) == folder
            if error:
                raise error
    except (ValueError, KeyboardInterrupt) as raised:
        assert type(raised) is error
    assert not list(outer.iterdir())
    assert tempfile.gettempdir() == str(outer) and os.environ.get("TMPDIR") == before


def test_within_it_the_outer_folder_is_still_known(outer):
    with own_temporary_folder(), own_temporary_folder() as inner:
        assert outer_temporary_folder() == str(outer) != os.path.dirname(inner)
