"""Tells when records change, for a cache that sees only parameters."""
