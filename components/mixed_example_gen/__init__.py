"""Ingests files of records of several kinds, and sets aside what is no record."""
