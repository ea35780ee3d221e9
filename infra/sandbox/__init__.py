"""Runs untrusted programs within limits, or refuses: there is no way to run a program unprotected."""
