"""Small faults of public checkpoints that are repaired in the imported copy, each with a line of progress.

Weights are never changed, nor is what decides how they are used.
"""

import codecs
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infra.files import write_text_atomically
from steps.checkpoint_template import DAY, fix_date

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "half": "float16", "fp32": "float32", "float": "float32"}


def repair_checkpoint(folder: Path, report: Callable[[str], None]) -> None:
    """Repair the checkpoint in a folder, in place. What is not JSON stays as it is."""
    for path in sorted(folder.glob("*.json")):
        content = path.read_bytes()
        if content.startswith(codecs.BOM_UTF8):
            path.write_bytes(content.removeprefix(codecs.BOM_UTF8))
            report(f"{path.name}: byte-order mark taken out")
    _edit(folder / "config.json", _name_dtypes, "dtype named as transformers does", report)
    _fix_dates(folder, report)


def _edit(path: Path, change: Callable[[dict[str, Any]], None], what: str, report: Callable[[str], None]) -> None:
    """Change the object in a JSON file, and say so where that changed it."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return
    before = json.dumps(content)
    if isinstance(content, dict):
        change(content)
    if json.dumps(content) != before:
        write_text_atomically(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        report(f"{path.name}: {what}")


def _name_dtypes(config: dict[str, Any]) -> None:
    """'torch.bfloat16' and 'bf16' as 'bfloat16'; 'auto' is left out, so that the weights' own dtype counts."""
    for part in (config, config.get("text_config")):
        for key in ("dtype", "torch_dtype"):
            if isinstance(part, dict) and isinstance(part.get(key), str):
                name = part[key].removeprefix("torch.")
                part[key] = DTYPES.get(name, name)
                if name == "auto":
                    del part[key]


def _fix_dates(folder: Path, report: Callable[[str], None]) -> None:
    what = f"today's date in the chat template is {DAY:%d %B %Y} from now on"
    for path in [*folder.glob("chat_template.jinja"), *folder.glob("additional_chat_templates/*.jinja")]:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if fix_date(text) != text:
            write_text_atomically(path, fix_date(text))
            report(f"{path.name}: {what}")
    for name in ("tokenizer_config.json", "chat_template.json"):
        _edit(folder / name, _fix_template, what, report)


def _fix_template(settings: dict[str, Any]) -> None:
    templates = settings.get("chat_template")
    if isinstance(templates, str):
        settings["chat_template"] = fix_date(templates)
    for named in templates if isinstance(templates, list) else []:
        if isinstance(named, dict) and isinstance(named.get("template"), str):
            named["template"] = fix_date(named["template"])
