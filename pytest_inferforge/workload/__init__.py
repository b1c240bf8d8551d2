"""What is asked of a server: arrivals, lengths and prompts, drawn from one seed into one schedule."""
