"""What each stage does. Knows no workflow engine, object store or tracker."""

METAFLOW_PACKAGE_POLICY = "include"
