"""How a matrix product is cut; what is in here is for the other compiled modules."""
