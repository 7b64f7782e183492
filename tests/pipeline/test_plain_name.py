"""A folder whose name holds the signs of patterns has another name, a link."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from branchline.pipeline.plain_name import plain_name
from branchline.schemas import RecipeError


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_name_without_signs_stays(tmp_path, cache):
    assert plain_name(tmp_path / "out é (2)") == tmp_path / "out é (2)"
    assert not cache.exists()


@pytest.mark.parametrize("name", ["in [v1]", "a*", "what?", "back\\slash"], ids="D22-{}".format)
def test_a_link_without_signs_leads_to_the_folder_the_same_each_time(tmp_path, cache, name):
    link = plain_name(tmp_path / name)
    (tmp_path / name).mkdir()
    (link / "a").write_text("written")
    assert (tmp_path / name / "a").read_text() == "written"
    assert plain_name(tmp_path / name) == link
    assert link.is_relative_to(cache)
    assert plain_name(tmp_path / f"{name}*") != link


@given(st.lists(st.text("ab*?[]", min_size=1), min_size=2, max_size=2, unique=True))
def test_no_link_has_a_sign_or_leads_to_another_folder(tmp_path_factory, names):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("names")
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        links = [plain_name(folder / name) for name in names]
        for name, link in zip(names, links, strict=True):
            (folder / name).mkdir()
            assert link.samefile(folder / name)
            assert not re.search(r"[*?\[\]\\]", str(link))


def test_a_cache_that_cannot_hold_the_link_is_told(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for place in ("file", "[x]"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place))
        with pytest.raises(RecipeError, match=r"--output .*/a\*: .* name another"):
            plain_name(tmp_path / "a*")
