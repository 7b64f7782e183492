"""Many steps: the inner loop, history, validation, early stop, checkpoints, TensorBoard."""
