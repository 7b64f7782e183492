"""Finds the model that was blessed last, where no metadata store can be asked."""
