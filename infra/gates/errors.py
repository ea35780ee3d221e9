"""What reading and building rules raises."""

from infra.errors import LonghaulError


class SuiteRefused(LonghaulError, ValueError):
    """A suite cannot be used; the message names file, gate, rule and key, and what would be right."""
