"""How good a model is, beside real codecs."""
