"""Who is in the network and how control messages reach them; pure, except `transport`."""
