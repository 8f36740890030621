"""How it is run: the runner, the journal of cells, asv's environment, the session on a card."""
