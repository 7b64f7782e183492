"""Names the files of routed examples: inside an ordinary split, a set of files per route."""

import os
from collections.abc import Iterable

from apache_beam.io.filesystems import FileSystems

# What comes after the route's name; the number of characters is fixed.
_PATTERN = "-?????-of-?????.gz"
# In the place of a route, for the one empty file of a split without an example.
NO_ROUTE = "no.route"  # no route can be called so


def file_name(route: str, shard: int, total: int) -> str:
    """Names a file of a route's examples, TFRecords compressed by gzip.

    >>> file_name("text", 0, 2)
    'text-00000-of-00002.gz'
    """
    return f"{route}-{shard:05d}-of-{total:05d}.gz"


def routed_name(key: tuple[str, str], shard: int, total: int) -> str:
    """Names a file of a split's and a route's examples, below the artifact.

    >>> routed_name(("train", "text"), 0, 2)
    'Split-train/text-00000-of-00002.gz'
    """
    split, route = key
    return os.path.join(split_dir("", split), file_name(route, shard, total))


def split_dir(uri: str, split: str) -> str:
    """Where an Examples artifact at `uri` holds a split, as TFX lays it out.

    >>> split_dir("/a/1", "train")
    '/a/1/Split-train'
    """
    return os.path.join(uri, f"Split-{split}")


def route_files(uris: Iterable[str], split: str, routes: Iterable[str]) -> dict[str, list[str]]:
    """Lists the files of routes in a split of routed examples, each folder once.

    Args:
        uris: Of the Examples artifacts, local or of a store that Beam reads.
        split: Such as "train".
        routes: Their names.

    Returns:
        Route → its files, sorted; none if it has none.
    """
    files: dict[str, list[str]] = {route: [] for route in routes}
    found = FileSystems.match([os.path.join(split_dir(uri, split), f"*{_PATTERN}") for uri in uris])
    for path in sorted(each.path for result in found for each in result.metadata_list):
        route = os.path.basename(path)[: -len(_PATTERN)]
        if route in files:
            files[route].append(path)
    return files
