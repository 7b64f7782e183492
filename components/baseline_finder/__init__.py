"""Finds the model that was blessed last, and its run's statistics, without a metadata store."""
