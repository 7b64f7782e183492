"""BranchEvaluator: judges every branch of a model on its own rows."""
