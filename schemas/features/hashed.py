"""Names of things of which there is no end."""

from dataclasses import dataclass

from branchline.schemas.errors import check_int
from branchline.schemas.features.feature import Feature


@dataclass(frozen=True)
class Hashed(Feature):
    """One text or number out of any number of them, such as the id of a user: int64 [batch, 1].

    Its hash says in which of the `buckets` it is, from 1 on; 0 stands for no value. Nothing is
    learnt from data, so new ids are as good as old ones. Those that share a bucket are one to the
    model: with as many buckets as ids, more than a third of the ids share theirs with another.
    """

    buckets: int

    def __post_init__(self) -> None:
        check_int("Hashed.buckets", self.buckets)

    @property
    def dtype(self) -> str:
        """Numbers are read as their decimal text."""
        return "string"

    @property
    def num_values(self) -> int:
        """A record holds one value."""
        return 1
