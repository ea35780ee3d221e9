"""vLLM: in this process, in a process of its own, or in several workers."""
