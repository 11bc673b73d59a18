"""Random and hostile input for everything that reads the other side's bytes."""
