"""How an OpenAI-compatible server is asked. Imports no client: a plan reads a recipe."""

import math
import os
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from infra.errors import LonghaulError

LIMITS = ("max_tokens", "max_completion_tokens")
"""Fields of a request that limit the tokens of its answer."""

FIXED_PARAMETERS = ("model", "messages", "stream", "n")
"""Fields of a request that `parameters` cannot change."""

OPERATIONAL = (
    "key_variable",
    "concurrency",
    "requests_per_minute",
    "timeout_seconds",
    "retries",
    "max_total_tokens",
    "max_cost",
    "prompt_price",
    "completion_price",
)
"""Settings that say how the server is reached and what may be spent: they change no answer."""


class KeyUnusable(LonghaulError, LookupError):
    """The environment has no key for a server, or one that cannot stand in a header; the message names the variable."""


class EndpointConfig(BaseModel):
    """An OpenAI-compatible server, and what may be spent there."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="Its address up to the version, as in https://HOST/v1.")
    model: str = Field(min_length=1, description="The model's name on the server.")
    key_variable: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="Environment variable that holds the key, which is never stored; without it none is sent.",
    )
    parameters: dict[str, Any] = Field(
        {},
        description="Further fields of each request; null leaves one of the usual ones out (max_tokens, temperature, "
        "seed), as in {max_tokens: null, seed: null, max_completion_tokens: 4096}.",
    )
    concurrency: int = Field(8, ge=1, le=512, description="Requests at the same time.")
    requests_per_minute: float | None = Field(None, gt=0, description="Most requests begun in a minute.")
    timeout_seconds: float = Field(600.0, gt=0, description="Longest wait for one answer.")
    retries: int = Field(
        6, ge=0, description="Further attempts after a failure that may pass (429, 5xx, a lost connection)."
    )
    max_total_tokens: int | None = Field(
        None,
        ge=1,
        description="Most tokens of prompts and answers for the whole stage. Where the next request could exceed it, "
        "the stage stops; raised, it resumes with the answers that it has.",
    )
    max_cost: float | None = Field(
        None, gt=0, description="Most that the whole stage may cost, by the two prices; it stops likewise."
    )
    prompt_price: float | None = Field(None, ge=0, description="Price of a million prompt tokens.")
    completion_price: float | None = Field(None, ge=0, description="Price of a million tokens of answers.")

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            port_is_a_number = parts.port is None or parts.port > 0
        except ValueError as error:
            raise ValueError(f"{url!r} is not an address ({error}): write https://HOST/v1") from error
        if parts.username is not None or parts.password is not None:
            raise ValueError("it holds a user name or a key: name an environment variable in key_variable instead")
        if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_a_number:
            raise ValueError(f"{url!r} is not an http address: write https://HOST/v1")
        if parts.query or parts.fragment:
            raise ValueError(f"{url!r} has a query or a fragment: write the address up to the version alone")
        if parts.path.rstrip("/").endswith("/chat/completions"):
            raise ValueError(f"{url!r} already names the call: write the address up to the version alone")
        return url.rstrip("/")

    @field_validator("parameters")
    @classmethod
    def _leaves_the_request_readable(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        if fixed := sorted(parameters.keys() & set(FIXED_PARAMETERS)):
            raise ValueError(f"{', '.join(fixed)} cannot be set here: the stage sets them itself; remove them")
        return parameters

    @model_validator(mode="after")
    def _has_prices_for_a_cost(self) -> "EndpointConfig":
        if self.max_cost is not None and (self.prompt_price is None or self.completion_price is None):
            raise ValueError("max_cost needs prompt_price and completion_price: give both, or max_total_tokens instead")
        return self

    @model_validator(mode="after")
    def _has_answers_of_limited_length(self) -> "EndpointConfig":
        limited = self.max_total_tokens is not None or self.max_cost is not None
        if limited and "max_tokens" in self.parameters and not self.most_completion_tokens:
            raise ValueError(
                "max_total_tokens and max_cost need a limit for each answer, and parameters.max_tokens takes it away: "
                "give parameters.max_completion_tokens, or leave parameters.max_tokens out"
            )
        return self

    @property
    def most_completion_tokens(self) -> int:
        """Longest answer that `parameters` allow, in tokens; 0 where they say nothing of it."""
        values = [self.parameters.get(name) for name in LIMITS]
        return max([math.ceil(value) for value in values if isinstance(value, int | float)], default=0)

    def read_key(self, where: str) -> str | None:
        """The key from the environment; None where none is sent. `where` is the recipe's name of this section.

        Raises KeyUnusable.
        """
        if self.key_variable is None:
            return None
        key = os.environ.get(self.key_variable, "").strip()
        variable = f"{where}.key_variable names {self.key_variable}"
        if not key:
            raise KeyUnusable(
                f"{variable}, and no environment variable has that name, or it is empty: set it to the key"
            )
        if not (key.isascii() and key.isprintable()):
            raise KeyUnusable(f"{variable}, and its value cannot be a key: it has characters beyond printable ASCII")
        return key

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """What so many tokens cost; None where there are no prices."""
        if self.prompt_price is None or self.completion_price is None:
            return None
        return (prompt_tokens * self.prompt_price + completion_tokens * self.completion_price) / 1e6
