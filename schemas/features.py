"""The kinds of feature a route can declare.

A kind says how a field's raw values are read (`dtype`), how many there have to be (`shape`), and so
which preprocessing and which encoder it gets when the recipe brings none of its own.
"""

from dataclasses import dataclass

from branchline.schemas.errors import check_int, reject


@dataclass(frozen=True)
class Feature:
    """A kind of feature. Use one of its subclasses."""

    @property
    def dtype(self) -> str:
        """The type its values are stored as: "float", "int" or "string"."""
        raise NotImplementedError

    @property
    def num_values(self) -> int | None:
        """How many values a record must hold; None when any number will do."""
        raise NotImplementedError

    @property
    def required(self) -> bool:
        """Whether a record without it is quarantined; otherwise a neutral value stands in.

        A lone number becomes its route's mean, a category its own "missing" one, a text is empty.
        To require one of those too, put `when.present(key)` into the route's condition.
        """
        return self.num_values not in (None, 1)


@dataclass(frozen=True)
class Numeric(Feature):
    """Numbers: float32 [batch, *shape], each position scaled to zero mean and unit variance.

    Args:
        shape: Of a record's numbers: () for one.
        whole: Whether they are whole numbers of 64 bits, such as times in milliseconds, which are
            kept as such until they are scaled. Others are kept as floats of 32 bits, about seven
            digits: near now, milliseconds since 1970 have steps of 131 s there.
    """

    shape: tuple[int, ...] = ()
    whole: bool = False

    def __post_init__(self) -> None:
        shape = (self.shape,) if isinstance(self.shape, int) else self.shape
        if not isinstance(shape, tuple | list):
            reject("Numeric.shape", self.shape, "a tuple of ints, such as () or (10,)")
        for size in shape:
            check_int("Numeric.shape", size)
        object.__setattr__(self, "shape", tuple(shape))
        if not isinstance(self.whole, bool):
            reject("Numeric.whole", self.whole, "True or False")

    @property
    def dtype(self) -> str:
        """Whole numbers are read as floats too, unless all have to be whole."""
        return "int" if self.whole else "float"

    @property
    def num_values(self) -> int:
        """The product of the shape."""
        product = 1
        for size in self.shape:
            product *= size
        return product


@dataclass(frozen=True)
class Categorical(Feature):
    """One of a set of values, text or number: int64 [batch], an index into a learnt vocabulary.

    The `max_values` most frequent values of the route's training rows get an index of their own,
    all others share one.
    """

    max_values: int = 1000

    def __post_init__(self) -> None:
        check_int("Categorical.max_values", self.max_values)

    @property
    def dtype(self) -> str:
        """Numbers are read as their decimal text."""
        return "string"

    @property
    def num_values(self) -> int:
        """A record holds one value."""
        return 1


@dataclass(frozen=True)
class Text(Feature):
    """Free text: its words as int64 [batch, length], indices into a learnt vocabulary, 0 for none.

    Words are runs of letters and digits in lower case; after `length` of them the rest is left out.
    The `max_words` most frequent words (and, with `ngrams=2`, pairs of neighbours) of the route's
    training rows are known.
    """

    max_words: int = 20_000
    length: int = 256
    ngrams: int = 1

    def __post_init__(self) -> None:
        check_int("Text.max_words", self.max_words)
        check_int("Text.length", self.length)
        check_int("Text.ngrams", self.ngrams)

    @property
    def dtype(self) -> str:
        """Numbers are read as their decimal text."""
        return "string"

    @property
    def num_values(self) -> int:
        """A record holds one text."""
        return 1


@dataclass(frozen=True)
class Image(Feature):
    """A picture: float32 [batch, height, width, channels], scaled as a whole to [0, 1]."""

    height: int
    width: int
    channels: int = 3

    def __post_init__(self) -> None:
        for field in ("height", "width", "channels"):
            check_int(f"Image.{field}", getattr(self, field))

    @property
    def dtype(self) -> str:
        """Pixels may be whole numbers or floats."""
        return "float"

    @property
    def num_values(self) -> int:
        """Row by row, channels last; nested lists are flattened in that order."""
        return self.height * self.width * self.channels

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return (self.height, self.width, self.channels)


@dataclass(frozen=True)
class Ids(Feature):
    """Whole numbers in [0, num_ids): int64 [batch, length], each with an embedding of its own."""

    num_ids: int
    length: int = 1

    def __post_init__(self) -> None:
        check_int("Ids.num_ids", self.num_ids)
        check_int("Ids.length", self.length)

    @property
    def dtype(self) -> str:
        """Only whole numbers."""
        return "int"

    @property
    def num_values(self) -> int:
        """The number of ids in a record."""
        return self.length

    @property
    def required(self) -> bool:
        """There is no neutral id."""
        return True
