"""Everything a store has, taken over to another: read in pages, written, and compared."""
