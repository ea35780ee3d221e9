"""Render a chat template in this process, which has limits: a template is a program that came with a checkpoint.

Reads one object from standard input: `template`, `variables` (special tokens by name), `message`, `bytes` of memory and
`seconds` of CPU time. Writes {"texts": [...]} to standard output, the template's text for the user's message, several
times on each of two days, or {"error": "..."}. Ends by a signal where a limit is passed.
"""

import json
import resource
import sys
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

DAYS = ("5 June 1998", "24 December 2031")
TIMES = 8
"""Texts for each day: jinja has a filter that chooses at random."""


def main() -> None:
    """Raises nothing for a template: what it raises is written."""
    request = json.load(sys.stdin)
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    limit = used + request["bytes"]
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    # What importing took counts as well.
    times = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(times.ru_utime + times.ru_stime) + 1 + request["seconds"]
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    try:
        texts = [_render(request, day) for day in DAYS for _ in range(TIMES)]
        answer = json.dumps({"texts": texts})
    except MemoryError:
        answer = json.dumps({"error": f"it needs more than {request['bytes'] >> 20} MB"})
    except Exception as error:
        answer = json.dumps({"error": f"{type(error).__name__}: {error}"})
    sys.stdout.write(answer)


def _render(request: dict[str, Any], day: str) -> str:
    variables: dict[str, Any] = dict(request["variables"])
    # As a variable of the template it comes before transformers' function of this name.
    variables["strftime_now"] = lambda form: f"{day} by {form}"
    conversation = [{"role": "user", "content": request["message"]}]
    texts: Any = render_jinja_template(
        [conversation], chat_template=request["template"], add_generation_prompt=True, **variables
    )
    return str(texts[0][0])


if __name__ == "__main__":
    main()
