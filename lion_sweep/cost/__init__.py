"""What work costs: FLOPs, memory, prices of texts; in closed form."""
