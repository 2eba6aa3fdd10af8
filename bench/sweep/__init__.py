"""Many runs: what is missing of a command, planned, launched, and watched."""
