"""One module per file format; `table` lists them, `part` has their interface."""
