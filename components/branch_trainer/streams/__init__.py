"""Streams of batches: from the files of a route to what a step takes, at any place of it."""
