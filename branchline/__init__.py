"""branchline: one TensorFlow model with a branch per kind of record, as a TFX pipeline."""

__version__ = "0.1.0"
