"""Which Python runs programs that are judged: another version may judge one otherwise."""

import platform
from functools import cache

from infra.sandbox.config import configured_sandbox
from infra.sandbox.interface import SandboxUnavailable
from infra.sandbox.token import read_token

SECONDS = 10.0


def sandbox_python() -> str:
    """The version of the sandbox's Python: this process's own, whose files boxes are made of, or the service's.

    Raises SandboxUnavailable for a service that cannot be reached or does not say.
    """
    service = configured_sandbox().service
    return platform.python_version() if service is None else _of_service(service.rstrip("/"))


@cache
def _of_service(url: str) -> str:
    import httpx  # takes a while

    token = read_token(None)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        # No proxy of the environment hears of the token.
        answer = httpx.get(f"{url}/v1/versions", headers=headers, timeout=SECONDS, trust_env=False)
        answer.raise_for_status()
        return str(answer.json()["python"])
    except (httpx.HTTPError, KeyError, ValueError) as error:
        raise SandboxUnavailable(
            f"the sandbox's service at {url} does not say which Python it runs, which is in stages' keys: {error}"
        ) from error
