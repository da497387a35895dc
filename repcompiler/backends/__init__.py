"""From the rewritten graph back into the document it was lifted from."""
