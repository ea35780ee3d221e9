"""Rows of the files that data sets come in: JSON lines, JSON, Parquet, and the first two compressed."""
