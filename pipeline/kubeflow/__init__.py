"""Compiles a recipe's pipeline for Kubeflow, submits it, and runs its steps there."""
