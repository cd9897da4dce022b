"""Programs that look for faults at random, from a seed."""
