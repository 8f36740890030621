"""What is timed: operations, layers, workloads, training steps, the machine's ceilings."""
