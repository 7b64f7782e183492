"""Writes a recipe's pipeline for a cluster as YAML."""
