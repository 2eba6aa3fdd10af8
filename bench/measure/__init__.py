"""What a number is: metrics of logits and their columns, without torch."""
