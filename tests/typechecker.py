"""The checker of types and shapes that tests put around some modules' functions (tests/conftest.py)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""As mypy reads them: an int is a float too."""
