"""What can be wrong with a question about lineage. The database is not imported to say so."""

from infra.errors import LonghaulError


class LineageError(LonghaulError, RuntimeError):
    """The index cannot answer; the message says why, and the way out."""
