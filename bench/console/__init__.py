"""How a line is printed: whole, in place of the last one, in columns, and harmless for a terminal."""
