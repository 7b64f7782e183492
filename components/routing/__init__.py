"""Parses, reads and routes a batch of records; the Router and the exported model share it."""
