"""The same agent loop on Ostler and on its peers, side by side: `make bench-peers`."""
