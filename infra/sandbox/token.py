"""The secret that a service (the sandbox's, the lineage page) and its clients share. It comes from a file or
the environment, and never from a command line, which every user of a machine can read."""

import os
from pathlib import Path

from infra.errors import LonghaulError

TOKEN_VARIABLE = "LONGHAUL_SANDBOX_TOKEN"
SHORTEST_TOKEN = 16


def how_to_set_a_token(variable: str) -> str:
    """What to do where a token is missing."""
    return f"set {variable}, or name a file that holds it (--token-file); `openssl rand -hex 32` makes a token"


HOW_TO_SET_A_TOKEN = how_to_set_a_token(TOKEN_VARIABLE)


class TokenRefused(LonghaulError, ValueError):
    """There is no token where one is needed, or it is none."""


def read_token(file: Path | None, variable: str = TOKEN_VARIABLE) -> str | None:
    """The token in a file, else the one in the environment, else None. Raises TokenRefused naming where it stands."""
    if file is None:
        token, place = os.environ.get(variable), variable
        if token is None:
            return None
    else:
        place = str(file)
        try:
            token = file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise TokenRefused(f"the token's file {file} cannot be read: {error}") from error
    token = token.strip()
    if len(token) < SHORTEST_TOKEN or not all("!" <= character <= "~" for character in token):
        raise TokenRefused(
            f"{place} holds no token: at least {SHORTEST_TOKEN} printable ASCII characters without spaces are needed; "
            "`openssl rand -hex 32` makes one"
        )
    return token
