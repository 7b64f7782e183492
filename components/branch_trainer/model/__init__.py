"""The model: parts, what computes uniform and mixed batches, and selective layers."""
