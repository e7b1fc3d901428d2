"""What workflow modules import: decorators that only mark, the context, the loader."""
