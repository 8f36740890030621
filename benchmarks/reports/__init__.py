"""What is read from it: results, the roof, tables, plots."""
