"""The kinds of feature a route can declare.

A kind says how a field's raw values are read (`dtype`), how many there have to be (`shape`), and so
which preprocessing and which encoder it gets when the recipe brings none of its own.
"""

from branchline.schemas.features.bool import Bool
from branchline.schemas.features.categorical import Categorical
from branchline.schemas.features.duration import Duration
from branchline.schemas.features.embedding import Embedding
from branchline.schemas.features.feature import Feature
from branchline.schemas.features.hashed import Hashed
from branchline.schemas.features.ids import Ids
from branchline.schemas.features.image import Image
from branchline.schemas.features.numeric import Numeric
from branchline.schemas.features.sequence import Sequence
from branchline.schemas.features.tags import Tags
from branchline.schemas.features.text import Text
from branchline.schemas.features.timestamp import Timestamp
from branchline.schemas.features.written import Written

__all__ = [
    "Feature",
    "Numeric",
    "Categorical",
    "Text",
    "Image",
    "Ids",
    "Written",
    "Bool",
    "Timestamp",
    "Duration",
    "Tags",
    "Sequence",
    "Hashed",
    "Embedding",
]
