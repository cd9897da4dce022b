"""One module per file format: `part` has their interface, `describe` next to this lists them."""
