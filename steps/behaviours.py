"""The four behaviours of a long reasoning path (§2.2): planning, evaluation, reflection and exploration.

The report names them and gives no measure, so that this one is the project's own: a path shows a behaviour where it
holds one of the words that announce it. That is a heuristic: it sees what is said, not whether anything came of it
("Let me check" counts, a silent check does not), in English alone. It serves to choose paths of different kinds and to
compare sets of them.
"""

import re
from typing import Literal, get_args

Behaviour = Literal["planning", "evaluation", "reflection", "exploration"]

BEHAVIOURS: dict[Behaviour, re.Pattern[str]] = {
    "planning": re.compile(
        r"\b(plan|first|let me start|let us start|step 1|to (?:solve|answer) this|(?:we|i) need to)\b", re.IGNORECASE
    ),
    "evaluation": re.compile(
        r"\b(check|checks|checking|checked|verify|verifies|verifying|verified|yes|makes sense|is correct)\b",
        re.IGNORECASE,
    ),
    "reflection": re.compile(
        r"\b(wait|again|back|actually|mistake|on second thought|let me reconsider|let me rethink)\b", re.IGNORECASE
    ),
    "exploration": re.compile(
        r"\b(try|trying|no|alternatively|instead|another (?:way|approach|method)|other (?:way|approach|method)|what if|"
        r"suppose)\b",
        re.IGNORECASE,
    ),
}
"""By behaviour, the words that announce it."""

NAMES: tuple[Behaviour, ...] = get_args(Behaviour)


def behaviours(response: str) -> set[Behaviour]:
    """Which of the four behaviours a response shows."""
    return {name for name, pattern in BEHAVIOURS.items() if pattern.search(response)}
