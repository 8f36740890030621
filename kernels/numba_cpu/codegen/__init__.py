"""How anything is compiled for the CPU."""
