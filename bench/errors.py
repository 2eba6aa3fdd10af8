"""What goes wrong in words that users read, and in ways that callers tell apart."""


class UsageError(Exception):
    """Bad input, in at most three lines: what was wrong, what is allowed, how to mend it. Exit code 2."""


class Unfit(UsageError):
    """A regularizer sets a value that the chosen model or optimizer does not have."""


class LockLost(Exception):
    """Another process has taken the lock over: what was done under it must be dropped."""


class Diverged(Exception):
    """The loss or the logits stopped being finite; the message says where."""
