"""What a machine can hold and how fast it is, by stated formulas: devices, models' shapes, memory, time.

Nothing here knows the recipe; `steps/estimate` does. docs/recipes.md states every formula. Sizes are in bytes, times in
seconds, unless a name says otherwise.
"""
