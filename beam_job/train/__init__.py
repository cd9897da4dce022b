"""Fitting an encoder and a decoder."""
