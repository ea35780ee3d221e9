"""A checkpoint's chat template: that it ends, that it says the message, and that it says the same on every day.

A template is a program that comes with the checkpoint. Its sandbox keeps it from files and processes, but not from
using up memory and time: it is rendered first in a process with limits (steps/template_worker.py).
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from steps.checkpoint_refused import CheckpointRefused

MESSAGE = "1 + 1 = ?"
DAY = datetime(2024, 7, 26)
"""The day that a template is given instead of today's; Llama 3's own where it cannot know the day."""
MEGABYTES = 512
CHARACTERS = 1_000_000
"""Longest text of a template for one short message."""
CPU_SECONDS = 10
WALL_SECONDS = 120
ROLES = 3
"""Words that are no system prompt: `user`, `[INST]`, `### Instruction:`."""
_TODAY = re.compile(r"""strftime_now\(\s*(["'])([^"'\\{}]*)\1\s*\)""")


def fix_date(template: str) -> str:
    """The template with the text of DAY wherever it asks for today's date: a prompt's tokens must not change with the
    day on which a stage runs."""
    return _TODAY.sub(lambda match: match[1] + DAY.strftime(match[2]) + match[1], template)


def render_message(template: str, variables: dict[str, Any]) -> str:
    """The template's text for a user's MESSAGE, with the start of a response after it.

    Args:
        variables: names that the template may use, as `eos_token`.

    Raises CheckpointRefused where the template fails, passes the limits, leaves out the message, or depends on the day.
    """
    request = {
        "template": template,
        "variables": {name: str(value) for name, value in variables.items() if isinstance(value, str)},
        "message": MESSAGE,
        "bytes": MEGABYTES * 2**20,
        "seconds": CPU_SECONDS,
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", "steps.template_worker"],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=WALL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise CheckpointRefused(_too_much(f"{WALL_SECONDS} seconds")) from None
    if done.returncode < 0:
        raise CheckpointRefused(_too_much(f"{CPU_SECONDS} seconds of CPU time or {MEGABYTES} MB"))
    if done.returncode:
        raise RuntimeError(f"the process that renders chat templates ended with {done.returncode}: {done.stderr}")
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise CheckpointRefused(f"chat_template.jinja: the template fails on one user message ({answer['error']})")
    first, *others = answer["texts"]
    if not first:
        raise CheckpointRefused("chat_template.jinja: the template leaves nothing of a user message; correct it")
    if any(other != first for other in others):
        raise CheckpointRefused(
            "chat_template.jinja: the template's text changes with the day (strftime_now) or from call to call, and so "
            "would the tokens of a prompt; write a fixed date into it"
        )
    if len(first) > CHARACTERS:
        raise CheckpointRefused(_too_much(f"{CHARACTERS:,} characters"))
    if MESSAGE not in first:
        raise CheckpointRefused(
            f"chat_template.jinja: the template leaves out what the user says: {MESSAGE!r} became {first[:200]!r}; "
            "give the template that belongs to this checkpoint"
        )
    return str(first)


def own_words(text: str, tokens: Iterable[str]) -> str:
    """What a template writes before a user's message besides special tokens and roles: a default system prompt, or "".

    Args:
        text: what render_message has returned.
        tokens: the tokenizer's special tokens.
    """
    before = text.partition(MESSAGE)[0]
    for token in sorted(tokens, key=len, reverse=True):
        before = before.replace(token, " ")
    words = before.split()
    return " ".join(words) if len(words) > ROLES else ""


def _too_much(limit: str) -> str:
    return (
        f"chat_template.jinja: one user message takes the template more than {limit}; give the template of a model of "
        "the same family"
    )
