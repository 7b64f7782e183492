"""What data_plane.py makes of flights: three routes by their distance."""

from branchline.schemas import Categorical, Numeric, Recipe, Route, RoutingTable, Training, when

FEATURES = {"distance": Numeric(), "origin": Categorical(), "destination": Categorical()}
TABLE = RoutingTable(
    *(
        Route(name, condition, features=FEATURES, label="delay", task="regression")
        for name, condition in {
            "short": when.less("distance", 500),
            "medium": when.less("distance", 1000),
            "long": when.present("distance"),
        }.items()
    )
)
recipe = Recipe("flights", TABLE, training=Training(steps=500))
