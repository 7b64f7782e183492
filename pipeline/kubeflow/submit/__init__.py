"""Uploads a compiled pipeline to a server, starts a run and follows it."""
