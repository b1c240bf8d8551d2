"""What the gate can do on one machine: its noise, taken apart, and what follows from it. Pure."""
