"""What is on disk: folders of runs, tables of experiments, and what is brought in or removed."""
