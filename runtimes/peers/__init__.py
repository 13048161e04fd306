"""Other load generators: what their result files say, and running them beside our own client."""
