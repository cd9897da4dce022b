"""One module per way that rows lie in files; `table` lists them, `rows` has their interface."""
