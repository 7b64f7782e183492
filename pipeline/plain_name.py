"""Gives a folder a name in which nothing can be taken for a pattern."""

import hashlib
import os
from pathlib import Path

from branchline.schemas import RecipeError

_SIGNS = set("*?[]\\")


def plain_name(folder: Path) -> Path:
    """Another name of `folder`, without the signs of patterns: Beam and TFX match what they write.

    It is a link in the user's cache folder, the same for every run. What runs write down, such as
    the metadata store's URIs, holds it.

    Args:
        folder: An absolute path; one without such signs is returned as it is.

    Raises:
        RecipeError: The cache folder cannot be written to, or has such a name itself.
    """
    if not _SIGNS & set(str(folder)):
        return folder
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute()
    link = cache / "branchline" / "outputs" / hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    told = f"--output {folder}: a path with one of * ? [ ] \\ needs a link to it in {link.parent}"
    if _SIGNS & set(str(link)):
        raise RecipeError(f"{told}, which has such a name itself; name another output folder")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(folder)
    except FileExistsError:
        pass  # another run was faster
    except OSError as error:
        raise RecipeError(f"{told}: {error.strerror or error}; name another folder") from error
    return link
