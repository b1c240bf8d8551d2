"""Numbers in, numbers out: the statistics that verdicts rest on, and the only owner of scipy."""
