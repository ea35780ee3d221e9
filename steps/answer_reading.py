r"""Where an answer stands in a response, for models that were not trained to put it into \boxed{}.

RL and curation reward what the prompt requests: a box. Evaluation can read otherwise besides, so that a model can be
compared before it was trained, and with published figures; the figures then say how answers were read.
"""

import re

from steps.configs.answer_reading import AnswerReading
from steps.rewards.score import after_thinking

_NUMBER = re.compile(r"(?<![\w.])[-−]?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_ANNOUNCED = re.compile(
    r"^####[ \t]*|\b(?:final[ \t]+)?answer(?:[ \t]+is)?[ \t]*[:=]?[ \t]+", re.IGNORECASE | re.MULTILINE
)


def with_answer_in_a_box(response: str, reading: AnswerReading) -> str:
    r"""The response as a verifier takes it: with its answer, as it is read, in \boxed{}; as it is where it has none.

    Args:
        reading: `boxed` leaves every response as it is. `last_number` takes the last number after the thinking, in
            digits, as public harnesses do for GSM8K. `final_answer_line` takes what follows the last "#### ",
            "Answer: " or "The final answer is ".
    """
    if reading == "boxed":
        return response
    text = after_thinking(response) or ""
    if reading == "last_number":
        numbers = _NUMBER.findall(text)
        answer = re.sub(r"[$,]", "", numbers[-1]) if numbers else ""
    else:
        places = [match.end() for match in _ANNOUNCED.finditer(text)]
        line = text[places[-1] :].partition("\n")[0] if places else ""
        answer = line.strip().rstrip(".").strip("*$ ")
    return f"\\boxed{{{answer}}}" if answer else response
