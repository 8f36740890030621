"""Two commits compared: what their blocks say, and what other tools would have said of them."""
