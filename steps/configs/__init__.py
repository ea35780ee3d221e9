"""Settings as types: the recipe's sections, each in a file named after it, which `steps.recipe` joins, and commands'.

The rule: what is said of a stage or a command stands here. What the recipe says of infra (engine, trainer, hand-over,
cluster, schedule, tracking, notification) stands in infra beside what it configures, so that infra imports nothing from
here. A stage imports its own section's file alone: another stage's settings are not part of its key.

They import no engine: a plan reads them, and must not wait for one.
"""
