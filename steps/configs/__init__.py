"""The recipe's sections as types, each in a file named after it; `steps.recipe` joins them.

The rule: what the recipe says of a stage stands here, what it says of infra (engine, trainer, hand-over, cluster,
schedule, tracking, notification) stands in infra beside what it configures, so that infra imports nothing from here. A
stage imports its own section's file alone: another stage's settings are not part of its key.

They import no engine: a plan reads them, and must not wait for one.
"""
