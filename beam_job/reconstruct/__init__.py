"""Latents to images again, and how good they are."""
