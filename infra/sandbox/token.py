"""The secret that a sandbox's service and its clients share. It comes from a file or the environment, and never from a
command line, which every user of a machine can read."""

import os
from pathlib import Path

TOKEN_VARIABLE = "LONGHAUL_SANDBOX_TOKEN"
SHORTEST_TOKEN = 16
HOW_TO_SET_A_TOKEN = (
    f"set {TOKEN_VARIABLE}, or name a file that holds it (--token-file); `openssl rand -hex 32` makes a token"
)


class TokenRefused(ValueError):
    """There is no token where one is needed, or it is none."""


def read_token(file: Path | None) -> str | None:
    """The token in a file, else the one in the environment, else None. Raises TokenRefused naming where it stands."""
    if file is None:
        token, place = os.environ.get(TOKEN_VARIABLE), TOKEN_VARIABLE
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
