"""LRP-max (SPEC 5): what a channel looks at, shown by its strongest neuron, explained alone."""
