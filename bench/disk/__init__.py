"""How a file is written: whole or not at all, by one process at a time, and whatever others remove meanwhile."""
