"""The base of errors that a user can resolve."""


class LonghaulError(Exception):
    """What was typed, a file, a store or a service stands in the way. The message names it and the way out.

    Commands print the message alone, and end with 1. Any other exception that reaches a command is a fault of the
    program, and is reported as one.
    """
