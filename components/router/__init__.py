"""Sends every example down its route, and sets aside what no route takes."""
