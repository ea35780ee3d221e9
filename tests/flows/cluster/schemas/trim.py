"""Cuts a project's schema down to what a kind needs: `python trim.py SOURCE KIND… >FILE`. See README.md."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

WORDS = ("description", "title", "default", "example", "x-kubernetes-validations")


def bare(schema: Any) -> Any:
    """Without texts."""
    if isinstance(schema, list):
        return [bare(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    retained = {name: one for name, one in schema.items() if name not in WORDS or isinstance(one, dict)}
    retained = {
        name: one for name, one in retained.items() if not name.startswith("x-") or name.endswith("int-or-string")
    }
    return {name: bare(one) for name, one in retained.items()}


def references(schema: Any) -> Iterator[str]:
    """Names of the definitions that a schema refers to."""
    if isinstance(schema, dict):
        for name, one in schema.items():
            yield from [one.rpartition("/")[2]] if name == "$ref" else references(one)
    elif isinstance(schema, list):
        for one in schema:
            yield from references(one)


def main() -> None:
    """See the module."""
    source = yaml.safe_load(Path(sys.argv[1]).read_text())
    if source.get("kind") == "CustomResourceDefinition":
        schema = bare(source["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
        del schema["properties"]["status"]
    else:
        waiting = [name for name in source["definitions"] if name.rpartition(".")[2] in sys.argv[2:]]
        results: dict[str, Any] = {}
        while waiting:
            name = waiting.pop()
            if name not in results:
                results[name] = bare(source["definitions"][name])
                waiting += references(results[name])
        schema = {"definitions": dict(sorted(results.items()))}
    json.dump(schema, sys.stdout, separators=(",", ":"))
    print()


if __name__ == "__main__":
    main()
