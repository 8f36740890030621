"""What the backends share of a network."""
