"""Whether kernels are right: one call against the oracle, the cases, a whole module of a user's."""
