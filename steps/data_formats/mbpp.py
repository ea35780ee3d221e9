"""MBPP (google-research-datasets/mbpp; CC BY 4.0): a task in words, and assertions that call the function by name."""

import re
import textwrap
from typing import Any

from steps.data_formats.fields import Row, field, kind, optional, text

CALL = re.compile(r"\b([A-Za-z_]\w*)\s*\(")
DEFINED = re.compile(r"^def ([A-Za-z_]\w*)", re.MULTILINE)


def problem(row: Row, row_id: str) -> dict[str, Any]:
    """Fields of a problem, of the whole set (`text`) or the sanitised one (`prompt`). Raises ValueError."""
    tests = field(row, "test_list")
    if not isinstance(tests, list) or not tests or not all(isinstance(test, str) for test in tests):
        raise ValueError(f"field 'test_list' is {kind(tests)}, and a list of assertions is expected, with at least one")
    code = text(row, "code").strip()
    defined = DEFINED.findall(code)
    called = next((name for name in CALL.findall(tests[0]) if name in defined), None)
    if called is None:
        raise ValueError(f"field 'test_list': {tests[0]!r} calls no function of the field 'code'")
    imports = row.get("test_imports") or []
    setup = "\n".join([*imports, optional(row, "test_setup_code") or ""]).strip()
    asserted = "\n".join(tests)
    question = text(row, "prompt" if "prompt" in row else "text").strip()
    return {
        "id": f"mbpp-{row.get('task_id', row_id)}",
        "prompt": f"{question} Give the whole program in Python. It must pass these tests:\n```python\n{asserted}\n```",
        "verifier": "code",
        # The tests call the function by its name.
        "function": {
            "entry_point": called,
            "check": f"def check(candidate):\n    {called} = candidate\n{textwrap.indent(asserted, '    ')}\n",
            "setup": setup,
        },
        "solution": f"```python\n{code}\n```",
        "domain": "code",
        "discipline": "functions",
        "source": "google-research-datasets/mbpp",
        "licence": "CC-BY-4.0",
    }
