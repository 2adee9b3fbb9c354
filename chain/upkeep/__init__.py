"""What operators do to the data folder of a node that stands still: look it over, make it smaller, carry blocks."""
