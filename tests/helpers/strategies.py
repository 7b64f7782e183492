"""Random conditions, tables, recipes and records for property tests; imports no TensorFlow."""

import math

from hypothesis import strategies as st

from branchline.schemas import (
    Alternate,
    Bool,
    Bound,
    Categorical,
    Duration,
    EarlyStopping,
    Embedding,
    Hashed,
    Ids,
    Image,
    Numeric,
    Proportional,
    Recipe,
    Route,
    RoutingTable,
    Sequence,
    Sequential,
    Tags,
    Target,
    Text,
    Timestamp,
    Training,
    Weighted,
    when,
)
from branchline.schemas.reasons import REASONS
from branchline.schemas.targets import LOSSES
from branchline.schemas.training import DECAYS, OPTIMIZERS

KEYS = ("a", "b", "c.d")
# "type" is also the word under which the JSON of a recipe keeps an object's class.
ROUTE_NAMES = ("r1", "r-2", "R_3", "type")
LABELS = ("y", "z")
SHAPES = ((), (1,), (2,), (1, 2))

keys = st.sampled_from(KEYS)
positive = st.floats(1e-6, 1e6)
small_ints = st.integers(1, 9)
scalars = st.one_of(
    st.integers(-3, 3),
    st.integers(-(2**40), 2**40),
    st.sampled_from([-1.5, -0.0, 0.0, 0.1, 1.0, 2.0, 2.5, 1e10]),
    st.sampled_from(["", "0", "1", "2.5", "x", "é"]),
)
numbers = scalars.filter(lambda value: not isinstance(value, str))

simple_conditions = st.one_of(
    st.builds(when.present, keys),
    st.builds(when.dtype, keys, st.sampled_from(["float", "int", "string", "str", "bool"])),
    st.builds(when.equals, keys, scalars | st.booleans()),
    st.builds(when.isin, keys, st.lists(scalars | st.booleans(), min_size=1, max_size=3)),
    st.builds(when.greater, keys, numbers),
    st.builds(when.less, keys, numbers),
)
conditions = st.recursive(
    simple_conditions,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda some: when.all(*some)),
        st.lists(inner, min_size=1, max_size=3).map(lambda some: when.any(*some)),
        st.builds(when.not_, inner),
    ),
    max_leaves=4,
)
features = st.one_of(
    st.builds(Numeric, st.lists(small_ints, max_size=2).map(tuple)),
    st.builds(Categorical, small_ints),
    st.builds(
        Text,
        small_ints,
        small_ints,
        st.integers(1, 2),
        st.sampled_from(["words", "characters"]),
    ),
    st.builds(Image, small_ints, small_ints, small_ints),
    st.builds(Ids, small_ints, small_ints),
    st.builds(Tags, small_ints, small_ints, st.sampled_from([None, ";"])),
    st.builds(
        Sequence,
        st.sampled_from([Numeric(), Numeric(whole=True), Categorical(5), Hashed(7), Ids(3)]),
        small_ints,
    ),
    st.builds(Hashed, small_ints),
    st.builds(Embedding, small_ints),
    st.builds(Bool),
    st.builds(Numeric, clip=st.just((None, 2.5)), scale=st.sampled_from(["log", "quantile"])),
    st.builds(Numeric, missing=st.sampled_from(["mean", "indicator"])),
    st.builds(Duration),
    st.builds(Timestamp, st.sampled_from(["s", "ns"]), st.sampled_from(["UTC", "-03:30"])),
)

TASKS = ["binary", "multiclass", "regression", "count", "ordinal", "quantile", "retrieval"]
OF_CLASSES = ("multiclass", "ordinal", "retrieval")


@st.composite
def targets(draw):
    task = draw(st.sampled_from(TASKS))
    shape = () if task in ("ordinal", "quantile", "retrieval") else draw(st.sampled_from(SHAPES))
    losses = [None, *LOSSES[task]]
    return Target(
        task,
        num_classes=draw(st.integers(3, 4)) if task in OF_CLASSES else None,
        quantiles=draw(st.sampled_from([None, (0.25, 0.75)])) if task == "quantile" else None,
        shape=shape,
        loss=draw(st.sampled_from([loss for loss in losses if shape or loss != "dice"])),
        loss_weight=draw(positive),
        optional=draw(st.booleans()),
    )


@st.composite
def routes(draw, name="r1", kinds=features):
    read = {
        "features": draw(st.dictionaries(st.sampled_from([*KEYS, "e"]), kinds, min_size=1)),
        "weight": draw(st.sampled_from([None, "w"])),
    }
    if draw(st.booleans()):
        several = st.dictionaries(st.sampled_from(LABELS), targets(), min_size=1)
        return Route(name, draw(conditions), **read, targets=draw(several))
    task = draw(st.sampled_from(TASKS))
    return Route(
        name,
        draw(conditions),
        **read,
        label=draw(st.sampled_from(LABELS)),
        task=task,
        num_classes=draw(st.integers(3, 4)) if task in OF_CLASSES else None,
        quantiles=draw(st.sampled_from([None, (0.25, 0.75)])) if task == "quantile" else None,
    )


@st.composite
def tables(draw, kinds=features):
    names = draw(st.lists(st.sampled_from(ROUTE_NAMES), min_size=1, max_size=3, unique=True))
    return RoutingTable(*(draw(routes(name, kinds)) for name in names))


def path_fields():
    """Some of the fields of PathTraining, with values that differ from the defaults."""
    return {
        "optimizer": st.sampled_from(OPTIMIZERS),
        "learning_rate": positive,
        "decay": st.sampled_from(DECAYS),
        "warmup_steps": st.integers(0, 9),
        "weight_decay": positive,
        "clip_norm": st.none() | positive,
        "clip_value": st.none() | positive,
        "accumulate": small_ints,
        "loss_weight": positive,
        "early_stopping": st.none() | st.builds(EarlyStopping, small_ints, positive),
    }


def schedules(names):
    name = st.sampled_from(names)
    return st.one_of(
        st.builds(Proportional, positive),
        st.builds(Alternate, st.none() | st.just("a") | st.lists(name, min_size=1).map(tuple)),
        st.builds(Weighted, st.dictionaries(name, positive, min_size=1)),
        st.builds(
            Sequential, st.lists(st.tuples(name, small_ints), min_size=1, max_size=3).map(tuple)
        ),
    )


@st.composite
def recipes(draw):
    table = draw(tables())
    names = st.sampled_from(table.names)
    bounds = st.builds(Bound, positive, st.none() | positive) | st.builds(
        Bound, st.none(), positive
    )
    fields = path_fields()
    training = Training(
        steps=draw(small_ints),
        schedule=draw(schedules(table.names)),
        validation_share=draw(st.floats(0.01, 0.99)),
        **draw(st.fixed_dictionaries({}, optional=fields)),
        routes=draw(st.dictionaries(names, st.fixed_dictionaries({}, optional=fields))),
    )
    return Recipe(
        name=draw(st.sampled_from(["support", "a-1", "type"])),
        routing=table,
        training=training,
        thresholds=draw(
            st.dictionaries(
                names, st.dictionaries(st.sampled_from(["auc", "my_loss"]), positive | bounds)
            )
        ),
        metrics=draw(st.dictionaries(names, st.lists(st.sampled_from(["Recall", "MSE"])))),
        max_regression=draw(st.floats(0, 2)),
        quarantine_limit=draw(st.floats(0, 1)),
        reason_limits=draw(st.dictionaries(st.sampled_from(sorted(REASONS)), st.floats(0, 1))),
        splits={"train": draw(small_ints), "eval": draw(small_ints)},
        least_rows=draw(small_ints),
        scarce=draw(st.dictionaries(names | st.just("*"), st.sampled_from(["fail", "skip"]))),
        split_key=draw(st.none() | st.sampled_from(["user", "é"])),
        missing_cells=draw(st.lists(st.sampled_from(["NA", "-999", "é?"]))),
        schema=draw(st.none() | st.just("schema.pbtxt")),
        data=draw(st.none() | st.just("records")),
    )


# Key → values of one type; what a parsed record is, with empty lists on top.
values = st.one_of(
    st.lists(st.integers(-3, 3) | st.integers(-(2**40), 2**40), max_size=2),
    st.lists(
        st.sampled_from([-1.5, -0.0, 0.0, 0.1, 1.0, 2.0, 2.5, 1e10])
        # TensorFlow's threads take numbers that small for 0.
        | st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False),
        max_size=2,
    ),
    st.lists(st.sampled_from(["", "0", "1", "2.5", "x", "é"]), max_size=2),
)
records = st.fixed_dictionaries(
    {},
    optional={key: values for key in (*KEYS, "e", *LABELS, "undeclared")}
    | {"w": values | st.sampled_from([[0.0], [2.5], [-0.5], [3], [math.nan], [math.inf]])},
)
