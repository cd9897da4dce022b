"""Whether a run is whole."""
