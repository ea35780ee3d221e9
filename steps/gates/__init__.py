"""The data gates of the stages: the tables that they check, what their rules may ask for, and when they check.

Nothing here changes what a stage makes (infra/stages/neutral.py): it returns nothing, and stops a stage or not.
"""
