"""THE job: images to latents in Parquet, and what that saves in bytes."""
