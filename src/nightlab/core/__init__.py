"""The types that everything shares, text made harmless, source code as data, and the contract."""
