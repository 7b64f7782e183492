"""Writes one self-contained page, and one JSON file, about what a run came to."""
