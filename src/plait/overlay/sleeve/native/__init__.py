"""What cuts and joins super-frames in C: built where there is a compiler (build.py), loaded if built (engine.py)."""
