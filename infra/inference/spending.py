"""What a stage spends at a server, and what it may: tokens and their cost. Counts only: `chat_endpoint` asks."""

from dataclasses import dataclass

from infra.inference.endpoint_config import EndpointConfig


@dataclass
class Spending:
    """Tokens so far. A request's most is reserved before it is begun, so that no limit is ever exceeded."""

    config: EndpointConfig
    prompt_tokens: int = 0
    completion_tokens: int = 0
    _reserved: tuple[int, int] = (0, 0)

    def reserve(self, prompt: int, completion: int) -> bool:
        """Whether a request that needs so many tokens may be begun; they are then reserved."""
        prompts, completions = self._reserved[0] + prompt, self._reserved[1] + completion
        total = (self.prompt_tokens + prompts, self.completion_tokens + completions)
        config, cost = self.config, self.config.cost(*total)
        if config.max_total_tokens is not None and sum(total) > config.max_total_tokens:
            return False
        if config.max_cost is not None and cost is not None and cost > config.max_cost:
            return False
        self._reserved = (prompts, completions)
        return True

    def settle(self, reserved: tuple[int, int], used: tuple[int, int]) -> None:
        """Count what a request used in place of what was reserved for it."""
        self._reserved = (self._reserved[0] - reserved[0], self._reserved[1] - reserved[1])
        self.prompt_tokens += used[0]
        self.completion_tokens += used[1]

    @property
    def under_way(self) -> bool:
        """Whether tokens are reserved."""
        return self._reserved != (0, 0)

    @property
    def cost(self) -> float | None:
        """So far; None without prices."""
        return self.config.cost(self.prompt_tokens, self.completion_tokens)

    @property
    def limits(self) -> str:
        """What was used, of what may be, in words."""
        used = f"{self.prompt_tokens + self.completion_tokens:,} tokens"
        cost = "" if self.cost is None else f", which cost {self.cost:.4g}"
        limits = {
            "max_total_tokens": self.config.max_total_tokens and f"{self.config.max_total_tokens:,}",
            "max_cost": self.config.max_cost and f"{self.config.max_cost:g}",
        }
        return f"used so far: {used}{cost}; " + ", ".join(
            f"{name} is {limit}" for name, limit in limits.items() if limit
        )
