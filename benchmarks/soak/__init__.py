"""A long run of the whole stack under faults: see __main__."""
