"""Settings of prompt curation (§2.1)."""

from pydantic import BaseModel, ConfigDict, Field


class CurationConfig(BaseModel):
    """Which prompts become the RL prompt set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int = Field(10, ge=1, description="Answers per prompt whose share of right ones is the pass rate.")
    temperature: float = Field(1.0, gt=0, description="Temperature of those answers; high, for diversity.")
    max_response_tokens: int = Field(128, ge=1, description="Longest of those answers.")
    guesses: int = Field(8, ge=0, description="N, tries to guess without a chain of thought; 0 turns the filter off.")
    max_guess_tokens: int = Field(24, ge=1, description="Longest guess.")
    max_prompt_tokens: int = Field(128, ge=1, description="Longer prompts are left out.")
    max_pass_rate: float = Field(1.0, gt=0, le=1, description="Prompts with a higher pass rate are left out; 1: none.")
    max_domain_share: float = Field(0.5, gt=0, le=1, description="Largest share of one domain in the set.")
