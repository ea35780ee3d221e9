"""What compiles the chain for a cluster of nodes and spreads stages over several of them."""
