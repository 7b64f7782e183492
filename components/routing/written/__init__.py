"""Reads texts that mean something: yes or no, times, durations; when routing and in the model."""
