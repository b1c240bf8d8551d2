"""What is measured beside the requests of a load: the server's own counters, its GPUs, its machine."""
