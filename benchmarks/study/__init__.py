"""The optimizer study: which method, rate and batch reaches the target first, `study`."""
