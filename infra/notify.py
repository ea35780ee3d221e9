"""Reports failures: one POST of JSON to a webhook.

Invariant: it never raises, never takes longer than DEADLINE_S, and says nowhere what the address is: whoever knows a
webhook's address may write to it. Values of environment variables that hold secrets are taken out of what is sent.
"""

import logging
import os
import random
import re
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from infra.text import visible

ATTEMPTS = 3
PATIENCE_S = 5.0
"""Seconds without a byte from the receiver after which an attempt is given up."""
DEADLINE_S = 20.0
"""Seconds for all attempts together."""
LONGEST = 4000
"""Characters of a text that is sent; of a longer one the end, where errors are."""
SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|WEBHOOK", re.IGNORECASE)
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

logger = logging.getLogger(__name__)


class NotifyConfig(BaseModel):
    """Where failures are reported."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    webhook: str = Field(
        description="Where a failure is posted: the name of an environment variable that holds the address, or the "
        "address itself if it is not a secret: a recipe is recorded with every run."
    )

    @field_validator("webhook")
    @classmethod
    def _can_be_asked(cls, value: str) -> str:
        if VARIABLE.fullmatch(value) is None:
            check_address(value)
            if urlsplit(value).username is not None:
                raise ValueError("the address holds a password: keep it in an environment variable, and name that here")
        return value

    def address(self, environment: Mapping[str, str]) -> str:
        """The address. Raises ValueError where the variable is not set or holds none."""
        if VARIABLE.fullmatch(self.webhook) is None:
            return self.webhook
        value = environment.get(self.webhook, "").strip()
        if not value:
            raise ValueError(f"the environment variable {self.webhook}, which notify.webhook names, is not set")
        try:
            check_address(value)
        except ValueError as error:
            raise ValueError(
                f"the environment variable {self.webhook} does not hold the address of a webhook"
            ) from error
        return value


def check_address(value: str) -> None:
    """Raises ValueError unless it is an http(s) address with a host."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected https://HOST/… or the name of an environment variable that holds it")


def notify(config: NotifyConfig, message: Mapping[str, Any]) -> bool:
    """Post a message; whether it was delivered. Texts in it are freed of secrets and of control characters, and cut."""
    try:
        address = config.address(os.environ)
    except ValueError as error:
        logger.warning("The failure was not reported: %s", error)
        return False
    body = {name: clean(value, os.environ) if isinstance(value, str) else value for name, value in message.items()}
    outcome: list[str] = []
    # A receiver that sends a byte now and then never runs into a timeout of a read; the thread ends with the process.
    sender = threading.Thread(target=lambda: outcome.append(_post(address, body)), daemon=True)
    sender.start()
    sender.join(DEADLINE_S)
    problem = outcome[0] if outcome else f"no answer within {DEADLINE_S:g} s"
    if problem:
        logger.warning("The failure was not reported: the webhook at %s: %s", urlsplit(address).hostname, problem)
    return not problem


def clean(text: str, environment: Mapping[str, str]) -> str:
    """A text without the values of variables that hold secrets, its control characters named."""
    # Short values are no secrets, and would be found in any text. The longest first: one may be a part of another.
    secrets = {value for name, value in environment.items() if SECRET.search(name) and len(value) >= 8}
    for value in sorted(secrets, key=len, reverse=True):
        text = text.replace(value, "***")
    text = visible(text)
    return text if len(text) <= LONGEST else f"[…]{text[-LONGEST:]}"


def _post(address: str, body: Mapping[str, Any]) -> str:
    """Post, and try again what may pass. Returns what was wrong, without the address; nothing where it was taken."""
    import httpx

    for name in ("httpx", "httpcore"):  # they log addresses
        logging.getLogger(name).setLevel(logging.WARNING)
    problem = ""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(random.uniform(0.5, 1) * 0.5 * 2**attempt)
        try:
            # The answer's body is not read: it may be endless. Redirects are not followed: they lead to others.
            with httpx.stream("POST", address, json=body, timeout=PATIENCE_S) as answer:
                if answer.is_success:
                    return ""
                problem = f"answered {answer.status_code}"
                if answer.status_code < 500 and answer.status_code not in (408, 429):
                    return problem
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            problem = type(error).__name__  # its message may hold the address
    return f"{problem}, {ATTEMPTS} times"
