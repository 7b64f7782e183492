"""Wires the components into a pipeline; the built-in recipes lie beside it."""
