"""Branch-aware preprocessing for TFX's Transform: one graph for all routes."""
