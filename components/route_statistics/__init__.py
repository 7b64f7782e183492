"""RouteStatistics: TFDV's statistics of routed examples, every route's rows apart."""
