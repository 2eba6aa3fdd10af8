"""Where it runs: cores, GPUs and memory."""
