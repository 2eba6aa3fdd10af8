"""What is made of the records: CSV tables, and what the terminal shows. Nothing here imports torch."""
