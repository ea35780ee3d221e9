"""How an answer is read from a response (steps/answer_reading.py)."""

from typing import Literal

AnswerReading = Literal["boxed", "last_number", "final_answer_line"]
