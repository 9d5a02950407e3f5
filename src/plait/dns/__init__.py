"""Names without a server: every node knows all names of the mesh and answers from its own copy."""
