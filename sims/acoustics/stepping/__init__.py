"""Time: the start of a pulse, the loop of steps, walls in it, and the energy that it keeps."""
