"""What reading and building rules raises."""


class SuiteRefused(ValueError):
    """A suite cannot be used; the message names file, gate, rule and key, and what would be right."""
