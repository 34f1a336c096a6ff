"""What ends the bench."""


class BenchError(Exception):
    """Something cannot be measured; the message says what, and what to do."""
