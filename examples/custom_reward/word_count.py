"""A reward of one's own: a summary in exactly as many words as its problem asks for, without words that it forbids.

A row that it judges, and the recipe's section that names it:

    {"id": "1", "prompt": "Sum up in 8 words: ...", "verifier": "custom", "extra": {"words": 8, "without": ["very"]}}

    judging:
      custom: {file: examples/custom_reward/word_count.py}
"""

import re
from typing import Any


def score(prompt: str, response: str, answer: str, problem: dict[str, Any]) -> float:
    """1 for the requested number of words, less for each word more or fewer, 0 with a forbidden one."""
    text = response.rpartition("</think>")[2]
    words = re.findall(r"[\w'-]+", text.lower())
    if set(words) & set(problem["extra"].get("without", [])):
        return 0.0
    return max(0.0, 1 - abs(len(words) - problem["extra"]["words"]) / problem["extra"]["words"])
