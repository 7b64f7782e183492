"""Ingests JSONL and CSV records of several kinds, and sets aside what is no record."""
