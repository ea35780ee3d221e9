"""Stored folders and records: in a local folder or on S3, by the digest of what is in them."""
