"""One step: loss, gradient, and the update of the variables that may change."""
