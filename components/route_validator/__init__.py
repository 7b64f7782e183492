"""RouteValidator: compares each route's statistics with the schema."""
