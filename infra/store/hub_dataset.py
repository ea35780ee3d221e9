"""Which files of a data set on the hub make up a split.

The hub's own rules: what the data set's card (README.md) lists under `configs`; where it lists nothing, files whose
path has the split's name as a word of its own, below a folder of the configuration's name.
"""

import fnmatch
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from infra.store.backend import StoreError

CARD = "README.md"
READ = (".parquet", ".jsonl", ".json", ".ndjson", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".json.zst")
"""Endings of files that are read."""
SPLITS = ("train", "test", "validation", "dev", "val", "eval")
"""Names that splits have where no card says them."""
ALL = "train"
"""The split that all files are where none has a split's name."""

_DEFAULT = "\0default"
"""The configuration that a card calls its default, beside its own name."""

Configs = dict[str, dict[str, list[str]]]
"""By configuration and split, the files."""

_CARD = re.compile(r"\A---\s*\n(.*?)\n---\s*(\n|\Z)", re.DOTALL)


def files_of_split(
    name: str, paths: Sequence[str], card: Path | None, config: str | None, split: str | None
) -> tuple[str, ...]:
    """The files of a split, in order.

    Args:
        name: the data set, for messages.
        paths: all files of the repository.
        card: its README.md on this machine.
        config: a configuration; None where there is one, or one that is the default.
        split: None where there is only one.

    Raises StoreError where there is no such configuration or split, with those that there are, and for files of a kind
    that is not read.
    """
    configs = _listed(card, paths) or _by_folder(paths)
    if not configs:
        raise StoreError(f"data set {name} has no file that can be read: {_first(paths)}")
    if config is None and len(configs) > 1:
        default = [key for key in configs if key in ("default", _DEFAULT)]
        if not default:
            raise StoreError(f"data set {name} has several configurations, {_names(configs)}: give `config`")
        config = default[0]
    splits = configs.get(config or next(iter(configs)))
    if splits is None:
        raise StoreError(f"data set {name} has no configuration {config!r}: it has {_names(configs)}")
    if split is None and len(splits) > 1:
        raise StoreError(f"data set {name} has several splits, {_names(splits)}: give `split`")
    files = splits.get(split or next(iter(splits)))
    if files is None:
        raise StoreError(f"data set {name} has no split {split!r}: it has {_names(splits)}")
    readable = tuple(path for path in sorted(files) if path.endswith(READ))
    if not readable:
        raise StoreError(
            f"data set {name}: the files of the split are not of a kind that is read ({_first(files)}): the hub keeps "
            f"it as Parquet at another revision, {name.partition('@')[0]}@refs/convert/parquet"
        )
    return readable


def _listed(card: Path | None, paths: Sequence[str]) -> Configs:
    """What the card lists."""
    match = _CARD.match(card.read_text(encoding="utf-8", errors="replace")) if card else None
    try:
        content = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:
        return {}
    configs: Configs = {}
    for entry in _list(content.get("configs") if isinstance(content, Mapping) else None):
        if not isinstance(entry, Mapping) or "data_files" not in entry:
            continue
        splits: dict[str, list[str]] = {}
        for split, patterns in _patterns(entry["data_files"]):
            folder = str(entry.get("data_dir") or "").strip("/")
            whole = [f"{folder}/{pattern}" if folder else pattern for pattern in patterns]
            splits[split] = [path for path in paths if any(_matches(path, pattern) for pattern in whole)]
        configs[str(entry.get("config_name", "default"))] = splits
        if entry.get("default") is True:
            configs[_DEFAULT] = splits
    return configs


def _patterns(data_files: Any) -> list[tuple[str, list[str]]]:
    if isinstance(data_files, Mapping):
        return [(str(split), [str(one) for one in _list(patterns)]) for split, patterns in data_files.items()]
    entries = _list(data_files)
    if entries and all(isinstance(entry, Mapping) and "split" in entry for entry in entries):
        return [(str(entry["split"]), [str(one) for one in _list(entry.get("path"))]) for entry in entries]
    return [(ALL, [str(entry) for entry in entries])]


def _list(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, list) else [value]


def _matches(path: str, pattern: str) -> bool:
    pattern = pattern.removeprefix("./")
    return fnmatch.fnmatchcase(path, pattern) or fnmatch.fnmatchcase(path, pattern.replace("**/", ""))


def _by_folder(paths: Sequence[str]) -> Configs:
    """Configurations by folder, and splits by the words of paths, where no card lists them."""
    configs: Configs = {}
    for path in paths:
        if not path.endswith(READ) or path.startswith("."):
            continue
        words = re.split(r"[^A-Za-z0-9]+", path)
        split = next((word for word in reversed(words) if word in SPLITS), ALL)
        folder = path.split("/")[0] if "/" in path else "default"
        config = "default" if folder in ("data", *SPLITS) else folder
        configs.setdefault(config, {}).setdefault(split, []).append(path)
    return configs


def _names(of: Mapping[str, Any]) -> str:
    return ", ".join(name for name in of if name != _DEFAULT)


def _first(paths: Sequence[str]) -> str:
    return ", ".join(list(paths)[:5]) + (", …" if len(paths) > 5 else "") if paths else "it is empty"
