"""Files of images: what they hold, how they are cut into shards, and reading them."""
