"""What can be chosen, and what is taken where nobody chooses."""

ENGINES = ("tensorflow", "ncnn", "litert")
PRECISIONS = ("float32", "int8")
LATENT_DTYPES = ("float32", "float16", "int8")
MIN_BITS, MAX_BITS = 4, 8
PARQUET_KINDS = SMALL, COMPATIBLE = ("small", "compatible")
"""How latents are encoded in Parquet."""
ORIENTATIONS = ("auto", "upright", "transposed")
INVERT = ("auto", "yes", "no")

BATCH_SIZE = 1024
SHARD_SIZE = 16384
MAX_UNPACKED_BYTES = 16 << 30
"""Ten times byclass, EMNIST's largest (8,142,550 images), takes 6.4 GB."""
