"""What is real: differences between arms, and how sure they are."""
