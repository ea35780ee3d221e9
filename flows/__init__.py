"""The flows: which stage follows which, and the command line. Thin."""

METAFLOW_PACKAGE_POLICY = "include"
