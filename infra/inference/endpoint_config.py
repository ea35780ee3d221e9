"""How an OpenAI-compatible server is asked. Imports no client: a plan reads a recipe."""

from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

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

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """What so many tokens cost; None where there are no prices."""
        if self.prompt_price is None or self.completion_price is None:
            return None
        return (prompt_tokens * self.prompt_price + completion_tokens * self.completion_price) / 1e6
