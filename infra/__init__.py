"""What stages run on: store, engines, trainer, sandbox, gates, tracking. Imports nothing of ours above it."""

METAFLOW_PACKAGE_POLICY = "include"
