"""Speed, memory and file sizes, side by side with what people would use instead."""
