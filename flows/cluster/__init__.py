"""Compiling the chain for a cluster, and running a stage on several of its nodes."""
