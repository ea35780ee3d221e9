"""Modules that cannot change what a stage makes, each with the reason. They are not in stages' keys, nor is what they
import.

A module may stand here only if it hands no value to code that is in a key. What such code imports from it is, by the
test of this rule (tests/infra/stages/test_neutral.py):

- a function that returns nothing;
- a context manager that yields nothing, a folder to write to, or a handle: a class whose public methods return nothing;
- a handle's class, or an exception.
"""

NEUTRAL = {
    "infra.progress": "says how far work is, on the screen, in a file or in a log",
    "infra.tracking": "reports metrics to wandb",
    "infra.notify": "tells somebody of a failure",
    "infra.files": "writes whole files: what is in them is the caller's",
    "infra.gates": "checks data: it stops a stage or warns, and changes nothing that passes",
    "infra.sandbox.admission": "the sandbox's service: who may ask for how much",
    "infra.sandbox.endpoints": "the sandbox's service: its addresses",
    "infra.sandbox.metrics": "the sandbox's service: its figures",
    "infra.sandbox.service": "the sandbox's service: programs run in the same boxes with it and without",
    "infra.lineage.web": "shows records in pages",
    "infra.lineage.export": "writes records in formats of other tools",
    "steps.gates": "the tables of the data gates, and what their rules may ask for",
    "steps.report": "shows records in pages",
}
"""By name; a package stands for all that is in it."""


def is_neutral(module: str) -> bool:
    """Whether a module stands in the list, or is in a package that does."""
    parts = module.split(".")
    return any(".".join(parts[:count]) in NEUTRAL for count in range(1, len(parts) + 1))
