"""What goes in: datasets by name, and where they are kept."""
