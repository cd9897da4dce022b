"""How what comes out becomes complete: an attempt is written, then sealed."""
