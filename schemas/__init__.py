"""The contracts as plain typed objects; imports neither TensorFlow nor TFX."""

from branchline.schemas import conditions as when
from branchline.schemas.errors import BranchlineError, RecipeError
from branchline.schemas.features import (
    Bool,
    Categorical,
    Duration,
    Embedding,
    Feature,
    Hashed,
    Ids,
    Image,
    Numeric,
    Sequence,
    Tags,
    Text,
    Timestamp,
)
from branchline.schemas.json_codec import from_json, to_json
from branchline.schemas.metrics import Bound
from branchline.schemas.recipe import Recipe
from branchline.schemas.resources import Resources
from branchline.schemas.route import Route
from branchline.schemas.routes import RoutingTable
from branchline.schemas.schedules import (
    Alternate,
    Proportional,
    Sequential,
    Weighted,
)
from branchline.schemas.splits import SplitByField, SplitByTime
from branchline.schemas.targets import Target
from branchline.schemas.training import EarlyStopping, PathTraining, Training
from branchline.schemas.validation import Validation

__all__ = [
    "Alternate",
    "Proportional",
    "Sequential",
    "Weighted",
    "Bool",
    "Bound",
    "BranchlineError",
    "Categorical",
    "Duration",
    "EarlyStopping",
    "Embedding",
    "Feature",
    "Hashed",
    "Ids",
    "Image",
    "Numeric",
    "PathTraining",
    "Recipe",
    "RecipeError",
    "Resources",
    "Route",
    "RoutingTable",
    "Sequence",
    "SplitByField",
    "SplitByTime",
    "Tags",
    "Target",
    "Text",
    "Timestamp",
    "Training",
    "Validation",
    "from_json",
    "to_json",
    "when",
]
