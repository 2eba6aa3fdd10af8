"""What was typed: `regbench <command>`, a command per file."""
