"""How good a model is, next to real codecs."""
