"""What stages run on: store, engines, trainer, sandbox, gates, tracking. Imports nothing of the project above it."""

METAFLOW_PACKAGE_POLICY = "include"
