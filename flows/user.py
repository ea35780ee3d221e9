"""Who does something, for records."""

import getpass
import os


def user_name() -> str:
    """The user's name, or number: a container's user may have no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())
