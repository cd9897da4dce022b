"""Sizes that are used where nobody gives others."""

BATCH_SIZE = 1024
SHARD_SIZE = 16384
MAX_UNPACKED_BYTES = 16 << 30
