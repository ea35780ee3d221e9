"""Running recipes at the times that they name."""
