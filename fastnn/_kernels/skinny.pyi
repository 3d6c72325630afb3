"""Matrix products with a side of a few; what is in here is for the dense layer."""
