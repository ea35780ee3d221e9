"""DeepSpeed: in this process, or in several ranks."""
