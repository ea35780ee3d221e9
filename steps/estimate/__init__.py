"""What a recipe would take on a machine, before it runs: memory per GPU, tokens, hours, cost; or why it cannot fit.

Every formula is stated in docs/recipes.md. `estimate` is the way in.
"""

from steps.estimate.estimate import Estimate, estimate

__all__ = ["Estimate", "estimate"]
